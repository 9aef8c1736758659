-- Delete a finished row. Those of a resource go with it, or as its historyLimit says: its status is read from them.
delete from "workerJobs" as j where j.id = %(id)s and j.finished is not null and j."resourceUid" is null returning j.id
