-- The id as QuickDapp's ORM can use it. It names every column in an INSERT, id included, with DEFAULT for what was not
-- given, and it can't use ids that come as text, as drivers give it a bigint. A cast of the identity could be read but not
-- be inserted into; a generated column takes DEFAULT.
alter table "workerJobs" add column if not exists "shortId" integer
    generated always as (case when id between -2147483648 and 2147483647 then id::integer end) stored;
create unique index if not exists "workerJobs_shortId" on "workerJobs" ("shortId");
