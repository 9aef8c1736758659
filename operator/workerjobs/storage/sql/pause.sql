insert into "workerJobPauses" (kind, name, reason) values (%(kind)s, %(name)s, %(reason)s)
on conflict (kind, name) do update set reason = excluded.reason
returning kind, name, reason, "pausedAt" as paused_at
