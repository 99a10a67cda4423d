-- The lines of Ali-CCP's sample skeletons, with the features that many of them share. One row a line.
-- In: sample_lines and common_lines, as aliccp_lines gives them, but with what the model takes of their features in
-- found. Out: keys, labels, found of the line's own features and of the common ones, and why a line cannot be used.
with

read_samples as (
    select
        ds,
        log,
        line,
        line_values[3] as common_index,
        found,
        -- Both files may number their samples from 1.
        2 * bigint(line_values[0]) + int(ds = :test_day) as exposure_id,
        tinyint(line_values[1]) as click,
        tinyint(line_values[2]) as purchase,
        case
            when reject_reason is not null then reject_reason
            when not line_values[0] rlike '^[0-9]{1,18}$' then 'unreadable sample id'
            when line_values[1] not in ('0', '1') or line_values[2] not in ('0', '1') then 'unreadable labels'
            when found.item_id is null then 'no item'
            when line_values[1] < line_values[2] then 'bought without a click'
        end as reject_reason
    from sample_lines
),

commons as (
    select
        ds,
        line_values[0] as common_index,
        found
    from common_lines
    where reject_reason is null
)

select
    read_samples.ds,
    read_samples.log,
    read_samples.line,
    read_samples.exposure_id,
    -- Not all lines name a user. What they share with others stands for one then: lines of one user and visit share it.
    coalesce(commons.found.user_id, xxhash64(read_samples.common_index) & 9223372036854775807) as user_id,
    read_samples.found.item_id,
    read_samples.click,
    read_samples.purchase,
    read_samples.found as own,
    commons.found as common,
    coalesce(
        read_samples.reject_reason, if(commons.common_index is null, 'unknown common features', null)
    ) as reject_reason
from read_samples
left join commons
    on read_samples.ds = commons.ds and read_samples.common_index = commons.common_index
