-- Cancel what is pending under these tags; running rows go on.
update "workerJobs"
set finished = now(), success = false, "updatedAt" = now(),
    "removeAt" = coalesce("removeAt", workerjobs.remove_at(due, "removeDelay")),
    result = '{"error": "Job cancelled due to new job being created"}'
where tag = any(%(tags)s) and started is null and finished is null
