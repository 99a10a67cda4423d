-- Every list has :length entries: real ones first, then padding, of id -1 and weight 0. A real entry weighs more than
-- 0, and less than :weights_below (1 or more is an event that was not strictly before the exposure; what a bag's
-- entries weigh is finite); the first the most.
-- In: sample_lists: ds, exposure_id, ids (an array for each entity), weights. Runs once for each list.
-- A row an entity: what is done to each array of an array Spark interprets, what is done to a row it compiles.
with

lists as (
    select
        ds,
        exposure_id,
        ids,
        weights,
        cast(array_position(weights, float(0)) as int) as first_padding
    from sample_lists
),

weighed as (
    select
        ds,
        exposure_id,
        ids,
        weights,
        first_padding,
        size(weights) != :length
        or array_min(weights) < 0
        or array_max(weights) >= :weights_below
        or array_max(weights) > weights[0]
        or (first_padding > 0 and array_max(slice(weights, first_padding, :length)) > 0) as is_broken
    from lists
),

of_entities as (
    select
        ds,
        exposure_id,
        weights,
        first_padding,
        is_broken,
        explode(ids) as ids
    from weighed
)

select
    ds,
    exposure_id,
    ids,
    weights
from of_entities
where
    is_broken
    or size(ids) != :length
    or array_min(ids) < -1
    or (first_padding > 0 and array_max(slice(ids, first_padding, :length)) > -1)
