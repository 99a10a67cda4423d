-- Grain: one row a segment and value that is among the :most heaviest of its segment.
-- In: predictions: weight; segments, the row's value of each segment, always in the same order.
-- A segment is known by its place there. Rows of weight 0 do not count; of values that weigh the same, the lowest come
-- first.
with

rows_of_segments as (
    select
        cast(weight as double) as weight,
        posexplode(segments) as (segment, value)
    from predictions
    where weight > 0
),

weighed as (
    select
        segment,
        value,
        sum(weight) as weight
    from rows_of_segments
    group by segment, value
),

ranked as (
    select
        segment,
        value,
        weight,
        row_number() over (partition by segment order by weight desc, value asc) as place
    from weighed
)

select
    segment,
    value,
    weight
from ranked
where place <= :most
order by segment asc, place asc
