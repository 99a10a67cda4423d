-- Grain: one row a row of a log that cannot be used, with the reason and what it was (JSON).
-- In: raw_exposures, raw_clicks, raw_purchases, raw_items, raw_users; :time_zone, :first_day, :last_day.
-- It belongs to the day that it was filed under; where logs are not filed by day, to its time's; where it has no
-- time either, and where it is of an item or user, to the first day of every run that reads it.
with

raw_rows as (
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
    union all
    select
        'items' as log,
        reject_reason as reason,
        null as filed_on,
        null as event_at,
        original
    from raw_items
    union all
    select
        'users' as log,
        reject_reason as reason,
        null as filed_on,
        null as event_at,
        original
    from raw_users
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
    from raw_rows
    where reason is not null
)

select
    log,
    reason,
    original,
    ds
from rejects
where ds between :first_day and :last_day
