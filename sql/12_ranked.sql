-- Grain: one row a pair of user and item, scored and ranked within its user: 1 is the highest pCTCVR.
-- In: scored: passthrough, pctr, pcvr, pctcvr; :model_version, :ds.
with

scored as (
    select
        passthrough.user_id,
        passthrough.item_id,
        pctr,
        pcvr,
        pctcvr
    from scored
)

select
    user_id,
    item_id,
    pctr,
    pcvr,
    pctcvr,
    row_number() over (
        partition by user_id
        order by pctcvr desc, item_id asc
    ) as rank,
    :model_version as model_version,
    :ds as ds
from scored
