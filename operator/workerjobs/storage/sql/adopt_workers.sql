-- Note whose workers these are: the cluster has their pods.
update "workerJobWorkers" set "clusterId" = %(cluster_id)s where owner = any(%(owners)s) and "clusterId" is null
