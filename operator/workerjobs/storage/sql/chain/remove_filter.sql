with declared as (
    delete from "workerChainFilters" where name = %(name)s returning name
),
cursors as (
    -- One of its name that is declared later begins anew.
    delete from "workerChainFilterCursors" where filter = %(name)s returning filter
)
select name from declared union select filter from cursors
