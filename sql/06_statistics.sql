-- Grain: one row a request, with its numbers of each statistic, in the statistics' order.
-- In: keyed_events: kind, statistic (its number), key, day (a number); keyed_requests: exposure_id, user_id, item_id,
--     and for each statistic its number, key, day and strength. A key says of what a statistic is one (an item; a
--     user and a brand).
-- Counts are over the 1, 7 and 30 days that end with the day before; a rate is mixed with that of all keys over the
-- same days, which counts like so many events as its strength says. Fifteen numbers: for each of 1, 7 and 30 days
-- log(1 + exposures), log(1 + clicks), log(1 + purchases), clicks an exposure, purchases a click.
-- One pass serves all statistics: a pass for each would read events and requests as many times.
with

daily as (
    select
        statistic,
        key,
        day,
        count_if(kind = 0) as exposures,
        count_if(kind = 1) as clicks,
        count_if(kind = 2) as purchases
    from keyed_events
    group by statistic, key, day
),

wanted as (
    select
        statistic,
        key,
        day,
        0 as exposures,
        0 as clicks,
        0 as purchases
    from keyed_requests
    group by statistic, key, day
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
        statistic,
        key,
        day,
        sum(exposures) as exposures,
        sum(clicks) as clicks,
        sum(purchases) as purchases
    from daily_and_wanted
    group by statistic, key, day
),

days_of_all as (
    select
        statistic,
        day,
        sum(exposures) as exposures,
        sum(clicks) as clicks,
        sum(purchases) as purchases
    from days_of_keys
    group by statistic, day
),

known_of_all as (
    select
        statistic,
        day,
        array(
            struct(sum(exposures) over of_1 as e, sum(clicks) over of_1 as c, sum(purchases) over of_1 as p),
            struct(sum(exposures) over of_7 as e, sum(clicks) over of_7 as c, sum(purchases) over of_7 as p),
            struct(sum(exposures) over of_30 as e, sum(clicks) over of_30 as c, sum(purchases) over of_30 as p)
        ) as totals
    from days_of_all
    window
        of_1 as (partition by statistic order by day range between 1 preceding and 1 preceding),
        of_7 as (partition by statistic order by day range between 7 preceding and 1 preceding),
        of_30 as (partition by statistic order by day range between 30 preceding and 1 preceding)
),

known_of_keys as (
    select
        statistic,
        key,
        day,
        array(
            struct(sum(exposures) over of_1 as e, sum(clicks) over of_1 as c, sum(purchases) over of_1 as p),
            struct(sum(exposures) over of_7 as e, sum(clicks) over of_7 as c, sum(purchases) over of_7 as p),
            struct(sum(exposures) over of_30 as e, sum(clicks) over of_30 as c, sum(purchases) over of_30 as p)
        ) as own
    from days_of_keys
    window
        of_1 as (partition by statistic, key order by day range between 1 preceding and 1 preceding),
        of_7 as (partition by statistic, key order by day range between 7 preceding and 1 preceding),
        of_30 as (partition by statistic, key order by day range between 30 preceding and 1 preceding)
),

known as (
    select
        known_of_keys.statistic,
        known_of_keys.key,
        known_of_keys.day,
        arrays_zip(known_of_keys.own, known_of_all.totals) as spans
    from known_of_keys
    inner join known_of_all
        on
            known_of_keys.statistic = known_of_all.statistic
            and known_of_keys.day = known_of_all.day
),

numbered as (
    select
        keyed_requests.exposure_id,
        keyed_requests.user_id,
        keyed_requests.item_id,
        keyed_requests.statistic,
        flatten(
            transform(
                known.spans,
                of -> array(
                    log1p(coalesce(of.own.e, 0)),
                    log1p(coalesce(of.own.c, 0)),
                    log1p(coalesce(of.own.p, 0)),
                    (coalesce(of.own.c, 0) + keyed_requests.strength * coalesce(of.totals.c / of.totals.e, 0))
                    / (coalesce(of.own.e, 0) + keyed_requests.strength),
                    (coalesce(of.own.p, 0) + keyed_requests.strength * coalesce(of.totals.p / of.totals.c, 0))
                    / (coalesce(of.own.c, 0) + keyed_requests.strength)
                )
            )
        ) as numbers
    from keyed_requests
    inner join known
        on
            keyed_requests.statistic = known.statistic
            and keyed_requests.key = known.key
            and keyed_requests.day = known.day
)

select
    exposure_id,
    user_id,
    item_id,
    transform(array_sort(collect_list(struct(statistic, numbers))), of -> of.numbers) as statistics
from numbered
group by exposure_id, user_id, item_id
