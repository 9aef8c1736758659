case
    when j.finished is null then case when j.started is null then 'pending' else 'running' end
    when j.success then 'succeeded'
    when j.started is null or j."cancelRequested" then 'cancelled'
    else 'failed'
end
