-- Grain: one row a key and day that a request needs, with what was known of the key at the start of that day.
-- In: keyed_events: kind, key, day (a number); keyed_requests: key, day; :strength. Runs once for each statistic of the
--     config; the key says of what it is one (an item; a user and a brand).
-- Counts are over the 1, 7 and 30 days that end with the day before; a rate is mixed with that of all keys over the
-- same days, which counts like :strength events. Fifteen numbers: for each of 1, 7 and 30 days log(1 + exposures),
-- log(1 + clicks), log(1 + purchases), clicks an exposure, purchases a click.
with

daily as (
    select
        key,
        day,
        count_if(kind = 0) as exposures,
        count_if(kind = 1) as clicks,
        count_if(kind = 2) as purchases
    from keyed_events
    group by key, day
),

wanted as (
    select
        key,
        day,
        0 as exposures,
        0 as clicks,
        0 as purchases
    from keyed_requests
    group by key, day
),

daily_and_wanted as (
    select *
    from daily
    union all
    select *
    from wanted
),

days_of_keys as (
    select
        key,
        day,
        sum(exposures) as exposures,
        sum(clicks) as clicks,
        sum(purchases) as purchases
    from daily_and_wanted
    group by key, day
),

days_of_all as (
    select
        day,
        sum(exposures) as exposures,
        sum(clicks) as clicks,
        sum(purchases) as purchases
    from days_of_keys
    group by day
),

known_of_all as (
    select
        day,
        array(
            struct(sum(exposures) over of_1 as e, sum(clicks) over of_1 as c, sum(purchases) over of_1 as p),
            struct(sum(exposures) over of_7 as e, sum(clicks) over of_7 as c, sum(purchases) over of_7 as p),
            struct(sum(exposures) over of_30 as e, sum(clicks) over of_30 as c, sum(purchases) over of_30 as p)
        ) as totals
    from days_of_all
    window
        of_1 as (order by day range between 1 preceding and 1 preceding),
        of_7 as (order by day range between 7 preceding and 1 preceding),
        of_30 as (order by day range between 30 preceding and 1 preceding)
),

known_of_keys as (
    select
        key,
        day,
        array(
            struct(sum(exposures) over of_1 as e, sum(clicks) over of_1 as c, sum(purchases) over of_1 as p),
            struct(sum(exposures) over of_7 as e, sum(clicks) over of_7 as c, sum(purchases) over of_7 as p),
            struct(sum(exposures) over of_30 as e, sum(clicks) over of_30 as c, sum(purchases) over of_30 as p)
        ) as own
    from days_of_keys
    window
        of_1 as (partition by key order by day range between 1 preceding and 1 preceding),
        of_7 as (partition by key order by day range between 7 preceding and 1 preceding),
        of_30 as (partition by key order by day range between 30 preceding and 1 preceding)
),

known as (
    select
        known_of_keys.key,
        known_of_keys.day,
        flatten(
            transform(
                arrays_zip(known_of_keys.own, known_of_all.totals),
                of -> array(
                    log1p(coalesce(of.own.e, 0)),
                    log1p(coalesce(of.own.c, 0)),
                    log1p(coalesce(of.own.p, 0)),
                    (coalesce(of.own.c, 0) + :strength * coalesce(of.totals.c / of.totals.e, 0))
                    / (coalesce(of.own.e, 0) + :strength),
                    (coalesce(of.own.p, 0) + :strength * coalesce(of.totals.p / of.totals.c, 0))
                    / (coalesce(of.own.c, 0) + :strength)
                )
            )
        ) as numbers
    from known_of_keys
    inner join known_of_all on known_of_keys.day = known_of_all.day
)

select
    wanted.key,
    wanted.day,
    known.numbers
from wanted
inner join known
    on
        wanted.key = known.key
        and wanted.day = known.day
