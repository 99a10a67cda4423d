-- A sample has an exposure, a user and an item, none of them absent, and a time.
select
    ds,
    exposure_id,
    user_id,
    item_id,
    exposed_at
from samples
where
    exposure_id is null
    or exposure_id < 0
    or user_id is null
    or user_id < 0
    or item_id is null
    or item_id < 0
    or exposed_at is null
