-- Grain: one row an event: an exposure (kind 0), a click (1) or a purchase (2), each once.
-- In: raw_exposures, raw_clicks, raw_purchases: event_id, user_id, item_id, exposure_id (what the log itself says,
--     or -1), event_at (microseconds), features, reject_reason.
-- Of events of one user, kind and id the earliest counts, of one time that which names its exposure; an exposure's id
-- with two users is a defect of the log, which checks/unique_exposure finds. Partitioned by user from here on:
-- attribution and lists need no other shuffle.
with

exposures as (
    select
        0 as kind,
        event_id,
        user_id,
        item_id,
        event_id as exposure_id,
        event_at,
        features,
        reject_reason
    from raw_exposures
),

clicks as (
    select
        1 as kind,
        event_id,
        user_id,
        item_id,
        exposure_id,
        event_at,
        null as features,
        reject_reason
    from raw_clicks
),

purchases as (
    select
        2 as kind,
        event_id,
        user_id,
        item_id,
        exposure_id,
        event_at,
        null as features,
        reject_reason
    from raw_purchases
),

all_events as (
    select *
    from exposures
    union all
    select *
    from clicks
    union all
    select *
    from purchases
),

by_user as (
    select *
    from all_events
    where reject_reason is null
    distribute by user_id
),

numbered as (
    select
        *,
        row_number() over (
            partition by user_id, kind, event_id
            order by event_at, exposure_id = -1, item_id, exposure_id, xxhash64(features)
        ) as copy
    from by_user
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
where copy = 1
