-- Grain: one row a pair of user and item to score, as a request.
-- In: raw_candidates: user_id, item_id, features, passthrough; :as_of (microseconds).
-- A pair that comes twice is scored once: of what else there is to it the least counts, in whichever order rows come.
-- Lists are the user's alone: no pair has them here.
with

numbered as (
    select
        *,
        row_number() over (partition by user_id, item_id order by features, passthrough) as copy
    from raw_candidates
)

select
    user_id as exposure_id,
    user_id,
    item_id,
    :as_of as exposed_at,
    :as_of as known_until,
    cast(0 as tinyint) as click,
    cast(0 as tinyint) as purchase,
    cast(1.0 as float) as weight,
    features,
    array() as statistics,
    array() as lists,
    passthrough
from numbered
where copy = 1
