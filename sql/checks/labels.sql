-- A label is 0 or 1, and a sample counts for itself or for those that were left out beside it.
select
    ds,
    exposure_id,
    click,
    purchase,
    weight
from samples
where
    click is null
    or click not in (0, 1)
    or purchase is null
    or purchase not in (0, 1)
    or weight is null
    or weight < 1
    or weight >= float('infinity')
