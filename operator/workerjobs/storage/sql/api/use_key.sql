-- Take a key, or find what was answered under it; waits for another transaction that takes it. After a day it is as new.
insert into "workerApiAnswers" as earlier (actor, key, fingerprint)
values (%(actor)s, %(key)s, %(fingerprint)s)
on conflict (actor, key) do update
set fingerprint = case
        when earlier."createdAt" > now() - interval '1 day' then earlier.fingerprint else excluded.fingerprint
    end,
    answer = case when earlier."createdAt" > now() - interval '1 day' then earlier.answer end,
    "createdAt" = case
        when earlier."createdAt" > now() - interval '1 day' then earlier."createdAt" else excluded."createdAt"
    end
returning fingerprint, answer
