-- The newest migration, and the oldest release (by its own newest migration) that works with this schema.
select max(version) as version, max("compatibleFrom") as compatible_from from "workerJobsMigrations"
