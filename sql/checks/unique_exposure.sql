-- An exposure has one sample. Where the two users differ, the log gives one id to exposures of both: 02_events takes
-- an id for one of its user's, since it is there that copies are found without a shuffle of their own.
select
    min(ds) as ds,
    exposure_id,
    count(*) as samples,
    min(user_id) as user_id,
    max(user_id) as other_user_id
from samples
group by exposure_id
having count(*) > 1
