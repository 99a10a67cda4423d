-- A sample that is bought is clicked.
select
    ds,
    exposure_id,
    click,
    purchase
from samples
where purchase > click
