select kind, name, reason, "pausedAt" as paused_at from "workerJobPauses" order by kind, name
