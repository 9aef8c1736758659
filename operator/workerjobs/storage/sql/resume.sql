delete from "workerJobPauses" where kind = %(kind)s and name = %(name)s returning name
