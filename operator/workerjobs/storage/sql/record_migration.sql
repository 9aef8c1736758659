insert into "workerJobsMigrations" (version, name, "compatibleFrom") values (%(version)s, %(name)s, %(compatible_from)s)
