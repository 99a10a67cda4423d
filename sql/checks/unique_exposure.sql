-- An exposure has one sample.
select
    exposure_id,
    count(*) as samples
from samples
group by exposure_id
having count(*) > 1
