-- Every list has :length entries: real ones first, then padding, of id -1 and weight 0. A real entry weighs more than
-- 0, and less than 1 (1 or more is an event that was not strictly before the exposure); the most recent the most.
-- In: sample_lists: ds, exposure_id, ids (an array for each entity), weights. Runs once for each list.
with

lists as (
    select
        *,
        cast(array_position(weights, float(0)) as int) as first_padding
    from sample_lists
)

select
    ds,
    exposure_id,
    ids,
    weights
from lists
where
    size(weights) != :length
    or array_min(weights) < 0
    or array_max(weights) >= 1
    or array_max(weights) > weights[0]
    or (first_padding > 0 and array_max(slice(weights, first_padding, :length)) > 0)
    or exists(
        ids,
        of_entity -> size(of_entity) != :length
        or array_min(of_entity) < -1
        or (first_padding > 0 and array_max(slice(of_entity, first_padding, :length)) > -1)
    )
