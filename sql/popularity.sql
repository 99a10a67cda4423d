-- Grain: one row a prediction, with the popularity of its item: the click rate of the item's samples, smoothed.
-- In: predictions; samples, those that popularity is learnt from; :prior, exposures at the rate of all items that are
--     added to an item's own, so that a rate does not rest on a handful. An item without samples gets that rate.
with

predictions as (
    select
        exposure_id,
        item_id,
        click,
        purchase,
        weight,
        pctr,
        pcvr,
        pctcvr,
        segments
    from predictions
),

samples as (
    select
        item_id,
        click,
        cast(weight as double) as weight
    from samples
),

items as (
    select
        item_id,
        sum(weight * click) as clicks,
        sum(weight) as exposures
    from samples
    group by item_id
),

overall as (
    select sum(clicks) / sum(exposures) as click_rate
    from items
)

select
    predictions.exposure_id,
    predictions.item_id,
    predictions.click,
    predictions.purchase,
    predictions.weight,
    predictions.pctr,
    predictions.pcvr,
    predictions.pctcvr,
    predictions.segments,
    (coalesce(items.clicks, 0) + :prior * overall.click_rate) / (coalesce(items.exposures, 0) + :prior) as popularity
from predictions
left join items on predictions.item_id = items.item_id
cross join overall
