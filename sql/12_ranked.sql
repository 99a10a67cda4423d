-- Grain: one row a pair of user and item, scored and ranked within its user: 1 is the highest score; equal ones go by
-- the item's id. No user has more than :top rows: Spark drops most of the others before it shuffles.
-- In: scored: user_id, item_id, what passes through, pctr, pcvr, pctcvr, score; :model_version, :scored_at, :ds.
-- Columns are not named here, since the config says what passes through.
with

ranked as (
    select
        *,
        row_number() over (
            partition by user_id
            order by score desc, item_id asc
        ) as rank
    from scored
)

select
    *, -- noqa: AM04
    :model_version as model_version,
    :scored_at as scored_at,
    :ds as ds
from ranked
where rank <= :top
