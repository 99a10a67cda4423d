-- Grain: one row a day, log and fate: how many of the log's rows of that day met it.
-- In: raw_exposures, raw_clicks, raw_purchases, raw_items, raw_users, unique_events, credited_events, rejects;
--     :time_zone, :first_day, :last_day.
-- Fates: one for each reason of rejection, also of items and users, and duplicate, which of the first day are those of
-- items and users that are there with their id and time already; usable, what was not rejected; unique, of those
-- what is no duplicate; kept, of those what is under the cap; credited, of those what has an exposure.
-- Rows are counted (n_) by minute, and only a time of each minute is turned into a day of the time zone: that costs,
-- and no zone has begun a day within a minute since 1972. A time, not the minute itself: by that, Spark would filter
-- each row by its day.
with

fates as (
    select
        0 as kind,
        event_at,
        1 as n_usable,
        0 as n_unique,
        0 as n_kept,
        0 as n_credited
    from raw_exposures
    where reject_reason is null
    union all
    select
        1 as kind,
        event_at,
        1 as n_usable,
        0 as n_unique,
        0 as n_kept,
        0 as n_credited
    from raw_clicks
    where reject_reason is null
    union all
    select
        2 as kind,
        event_at,
        1 as n_usable,
        0 as n_unique,
        0 as n_kept,
        0 as n_credited
    from raw_purchases
    where reject_reason is null
    union all
    select
        kind,
        event_at,
        0 as n_usable,
        1 as n_unique,
        0 as n_kept,
        0 as n_credited
    from unique_events
    union all
    select
        kind,
        event_at,
        0 as n_usable,
        0 as n_unique,
        1 as n_kept,
        if(credited_exposure_id is null, 0, 1) as n_credited
    from credited_events
),

of_minutes as (
    select
        kind,
        min(event_at) as event_at,
        sum(n_usable) as n_usable,
        sum(n_unique) as n_unique,
        sum(n_kept) as n_kept,
        sum(n_credited) as n_credited
    from fates
    group by kind, event_at - pmod(event_at, 60000000)
),

of_fates as (
    select
        element_at(array('exposures', 'clicks', 'purchases'), kind + 1) as log,
        cast(to_date(from_utc_timestamp(timestamp_micros(event_at), :time_zone)) as string) as ds,
        explode(map('usable', n_usable, 'unique', n_unique, 'kept', n_kept, 'credited', n_credited)) as (fate, events)
    from of_minutes
),

versions as (
    select
        'items' as log,
        entity_id,
        valid_from
    from raw_items
    where reject_reason is null
    union all
    select
        'users' as log,
        entity_id,
        valid_from
    from raw_users
    where reject_reason is null
),

copies as (
    select
        log,
        count(*) - 1 as copies
    from versions
    group by log, entity_id, valid_from
    having count(*) > 1
),

of_days as (
    select
        log,
        fate,
        ds,
        events
    from of_fates
    where events > 0
    union all
    select
        log,
        'duplicate' as fate,
        :first_day as ds,
        copies as events
    from copies
    union all
    select
        log,
        reason as fate,
        ds,
        1 as events
    from rejects
)

select
    ds,
    log,
    fate,
    sum(events) as events
from of_days
where ds between :first_day and :last_day
group by ds, log, fate
