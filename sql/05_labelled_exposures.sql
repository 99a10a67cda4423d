-- Grain: one row an exposure at or after :starts_at and before :ends_at (microseconds), with its labels.
-- In: credited_events; :history_cutoff, :time_zone; :keep_unclicked, the share of unclicked exposures to keep, :seed.
-- A list of the exposure may hold what happened strictly before known_until: the exposure, or its day's start.
-- What is left of the unclicked exposures weighs as much as all of them did.
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
    where credited_exposure_id is not null
    window same_exposure as (partition by user_id, credited_exposure_id)
),

exposures as (
    select
        *,
        -- Between 0 and 1, and the same whenever the seed is.
        (xxhash64(event_id, :seed, 'keep') & 9223372036854775807) / 9223372036854775807 as draw,
        date_trunc('day', from_utc_timestamp(timestamp_micros(event_at), :time_zone)) as local_day
    from labelled
    where
        kind = 0
        and event_at >= :starts_at
        and event_at < :ends_at
)

select
    event_id as exposure_id,
    user_id,
    item_id,
    event_at as exposed_at,
    if(
        :history_cutoff = 'day_start',
        unix_micros(to_utc_timestamp(local_day, :time_zone)),
        event_at
    ) as known_until,
    cast(click as tinyint) as click,
    cast(purchase as tinyint) as purchase,
    cast(if(click = 1, 1.0, 1.0 / :keep_unclicked) as float) as weight,
    features,
    array() as statistics,
    array() as lists,
    null as passthrough
from exposures
where
    click = 1
    or draw < :keep_unclicked
