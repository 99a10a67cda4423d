-- Grain: one row a day, log and fate: how many of the log's rows of that day met it.
-- In: raw_exposures, raw_clicks, raw_purchases, credited_events; :time_zone, :starts_at, :ends_at.
-- Fates: read, one for each reason of rejection, kept (no duplicate, under the cap), credited.
with

raw_events as (
    select
        'exposures' as log,
        event_at,
        reject_reason
    from raw_exposures
    union all
    select
        'clicks' as log,
        event_at,
        reject_reason
    from raw_clicks
    union all
    select
        'purchases' as log,
        event_at,
        reject_reason
    from raw_purchases
),

fates as (
    select
        log,
        event_at,
        explode(if(reject_reason is null, array('read'), array('read', reject_reason))) as fate
    from raw_events
    union all
    select
        element_at(array('exposures', 'clicks', 'purchases'), kind + 1) as log,
        event_at,
        explode(if(credited_exposure_id is null, array('kept'), array('kept', 'credited'))) as fate
    from credited_events
)

select
    cast(to_date(from_utc_timestamp(timestamp_micros(event_at), :time_zone)) as string) as ds,
    log,
    fate,
    count(*) as events
from fates
where
    event_at >= :starts_at
    and event_at < :ends_at
group by 1, 2, 3
