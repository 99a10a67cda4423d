-- Grain: one row an exposure at or after :starts_at and before :ends_at (microseconds), with its labels.
-- In: credited_events.
-- A list of the exposure may hold what happened strictly before known_until.
with

credited_events as (
    select *
    from credited_events
),

labelled as (
    select
        *,
        max(if(kind = 1, 1, 0)) over same_exposure as click,
        max(if(kind = 2, 1, 0)) over same_exposure as purchase
    from credited_events
    where exposure_id is not null
    window same_exposure as (partition by user_id, item_id, exposure_id)
)

select
    exposure_id,
    user_id,
    item_id,
    event_at as exposed_at,
    event_at as known_until,
    cast(click as tinyint) as click,
    cast(purchase as tinyint) as purchase,
    features,
    array() as lists,
    null as passthrough
from labelled
where
    kind = 0
    and event_at >= :starts_at
    and event_at < :ends_at
