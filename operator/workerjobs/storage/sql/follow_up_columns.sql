/* The columns of a row that follows another one, in the order of follow_up_values.sql. */
type, "userId", data, due, tag, "cronSchedule", "timeZone", "cronKey", tick, persistent, priority, pool, "timeoutMs",
"removeDelay", "removeAt", "autoRescheduleOnFailure", "autoRescheduleOnFailureDelay", "retryLimit",
"retryInitialDelay", "retryFactor", "retryMaxDelay", "retryJitter", traceparent, "clusterId", namespace,
"resourceName", "resourceUid", "resourceGeneration", attempt, "rescheduledFromJob", "catchUp", "concurrencyPolicy",
"dataFrom", "concurrencyKey", "concurrencyLimit", "rateLimit", "ratePeriod"
