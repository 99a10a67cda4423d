-- Grain: one row a pair of user and item to score, as a request with its user's lists.
-- In: raw_candidates: user_id, item_id, features, passthrough; user_lists, one row a user.
-- A pair that comes twice is scored once.
with

numbered as (
    select
        *,
        row_number() over (partition by user_id, item_id order by xxhash64(features)) as copy
    from raw_candidates
)

select
    user_lists.exposure_id,
    numbered.user_id,
    numbered.item_id,
    user_lists.exposed_at,
    user_lists.known_until,
    user_lists.click,
    user_lists.purchase,
    user_lists.weight,
    numbered.features,
    array() as statistics,
    user_lists.lists,
    numbered.passthrough
from numbered
inner join user_lists on numbered.user_id = user_lists.user_id
where numbered.copy = 1
