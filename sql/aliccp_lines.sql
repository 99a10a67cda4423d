-- The lines of Ali-CCP's files, taken apart: comma-separated values, the last of which is a list of features, entries
-- FIELD \u0002 ID \u0003 VALUE joined by \u0001. One row a line.
-- In: lines: ds, log, line. Out: the line's :values values; the features, by field, then by value from the highest,
-- then by id; and why the line cannot be used, where its form is another one.
with

split_lines as (
    select
        ds,
        log,
        line,
        split(line, ',') as line_values,
        split(element_at(split(line, ','), -1), '\u0001') as entries
    from lines
),

checked_lines as (
    select
        ds,
        log,
        line,
        line_values,
        entries,
        forall(
            entries,
            entry -> entry rlike '^[0-9_]+\u0002[0-9]{1,18}\u0003[0-9]{1,18}([.][0-9]+)?([eE]-[0-9]{1,2})?$'
        ) as is_readable
    from split_lines
)

select
    ds,
    log,
    line,
    line_values,
    -- With a minus before the value one order serves all three.
    sort_array(
        transform(
            entries,
            entry -> struct(
                substring_index(entry, '\u0002', 1) as field,
                -1 * float(substring_index(entry, '\u0003', -1)) as minus_value,
                bigint(substring_index(substring_index(entry, '\u0003', 1), '\u0002', -1)) as id
            )
        )
    ) as features,
    case
        when size(line_values) != :values then 'another number of values'
        when not is_readable then 'unreadable features'
    end as reject_reason
from checked_lines
