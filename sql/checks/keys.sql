-- A sample has an exposure, a user and an item, none of them absent, and a time; no id of its features is below -1,
-- which means absent: lowest_id is the least of them.
select
    ds,
    exposure_id,
    user_id,
    item_id,
    exposed_at,
    lowest_id
from samples
where
    exposure_id is null
    or exposure_id < 0
    or user_id is null
    or user_id < 0
    or item_id is null
    or item_id < 0
    or exposed_at is null
    or lowest_id < -1
