-- Grain: one row an event, at most :most of a kind for each user and day, the earliest.
-- In: events; :most, :time_zone. Runs only where the config sets a cap.
with

events as (
    select
        *,
        to_date(from_utc_timestamp(timestamp_micros(event_at), :time_zone)) as day
    from events
),

numbered as (
    select
        *,
        row_number() over (partition by user_id, kind, day order by event_at, event_id) as place
    from events
)

select
    kind,
    event_id,
    user_id,
    item_id,
    exposure_id,
    event_at,
    features
from numbered
where place <= :most
