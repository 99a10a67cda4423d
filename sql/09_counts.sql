-- Grain: one row a day, log and fate: how many of the log's rows of that day met it.
-- In: raw_exposures, raw_clicks, raw_purchases, unique_events, credited_events, rejects; :time_zone, :first_day,
--     :last_day.
-- Fates: one for each reason of rejection; usable, what was not rejected; unique, of those what is no duplicate;
-- kept, of those what is under the cap; credited, of those what has an exposure.
with

raw_events as (
    select
        0 as kind,
        event_at
    from raw_exposures
    where reject_reason is null
    union all
    select
        1 as kind,
        event_at
    from raw_clicks
    where reject_reason is null
    union all
    select
        2 as kind,
        event_at
    from raw_purchases
    where reject_reason is null
),

fates as (
    select
        kind,
        event_at,
        'usable' as fate
    from raw_events
    union all
    select
        kind,
        event_at,
        'unique' as fate
    from unique_events
    union all
    select
        kind,
        event_at,
        explode(if(credited_exposure_id is null, array('kept'), array('kept', 'credited'))) as fate
    from credited_events
),

of_days as (
    select
        element_at(array('exposures', 'clicks', 'purchases'), kind + 1) as log,
        fate,
        cast(to_date(from_utc_timestamp(timestamp_micros(event_at), :time_zone)) as string) as ds
    from fates
    union all
    select
        log,
        reason as fate,
        ds
    from rejects
)

select
    ds,
    log,
    fate,
    count(*) as events
from of_days
where ds between :first_day and :last_day
group by ds, log, fate
