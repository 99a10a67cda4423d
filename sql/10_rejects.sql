-- Grain: one row a row of a log that cannot be used, with the reason and what it was (JSON).
-- In: raw_exposures, raw_clicks, raw_purchases; :time_zone, :first_day, :last_day.
-- It belongs to the day that it was filed under; where logs are not filed by day, to its time's; where it has no
-- time either, to the first day of every run that reads it.
with

raw_events as (
    select
        'exposures' as log,
        reject_reason as reason,
        filed_on,
        event_at,
        original
    from raw_exposures
    union all
    select
        'clicks' as log,
        reject_reason as reason,
        filed_on,
        event_at,
        original
    from raw_clicks
    union all
    select
        'purchases' as log,
        reject_reason as reason,
        filed_on,
        event_at,
        original
    from raw_purchases
),

rejects as (
    select
        log,
        reason,
        original,
        coalesce(
            filed_on,
            cast(to_date(from_utc_timestamp(timestamp_micros(event_at), :time_zone)) as string),
            :first_day
        ) as ds
    from raw_events
    where reason is not null
)

select
    log,
    reason,
    original,
    ds
from rejects
where ds between :first_day and :last_day
