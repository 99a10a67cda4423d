-- Grain: one row a request (an exposure, or a user to score), with one more behaviour list in `lists`.
-- In: requests, events, items; :kind of event, :length, :look_back (microseconds). Runs once for each list.
-- The list holds the last :length events of the user that came strictly before known_until and no more than
-- :look_back earlier, by (time, event id), the most recent first.
--
-- No row meets every row of its user: each request learns how many entries came before it (seen), and a range
-- over that count, in the same partitioning, holds just the entries that its list needs. A frame's bound cannot
-- be a parameter, so the count is measured in lists: one list back, from halfway to the next entry, so that rounding
-- moves none in or out. Requests stand a billion lists behind the entries: a frame's rows are held in memory, and of
-- a user without entries all requests have the same count.
-- A lambda is interpreted, an entry at a time: only a list that the look-back may cut goes through one.
with

entries as (
    select
        events.user_id,
        events.event_at as at,
        events.event_id as tie_breaker,
        struct(events.event_at as at, events.item_id, items.features as item) as entry,
        null as request
    from events
    left join items
        on
            events.item_id = items.entity_id
            and events.event_at >= items.valid_from
            and events.event_at < items.valid_until
    where events.kind = :kind
),

requests as (
    select
        user_id,
        known_until as at,
        exposure_id as tie_breaker,
        null as entry,
        struct(*) as request
    from requests
),

timeline as (
    select *
    from entries
    union all
    select *
    from requests
),

counted as (
    select
        *,
        -- Of one time, requests come first: an entry of that very time is not before them.
        count(entry) over (
            partition by user_id
            order by at, entry is not null, tie_breaker
            rows between unbounded preceding and current row
        ) as seen
    from timeline
),

listed as (
    select
        request,
        collect_list(entry) over (
            partition by user_id
            order by if(request is null, seen / :length, 1000000000 + (seen + 0.5) / :length)
            range between 1000000001 preceding and 1000000000 preceding
        ) as entries
    from counted
)

select
    request.exposure_id,
    request.user_id,
    request.item_id,
    request.exposed_at,
    request.known_until,
    request.click,
    request.purchase,
    request.weight,
    request.features,
    request.statistics,
    concat(
        request.lists,
        array(
            if(
                entries[0].at >= request.known_until - :look_back,
                reverse(entries),
                filter(reverse(entries), entry -> entry.at >= request.known_until - :look_back)
            )
        )
    ) as lists,
    request.passthrough
from listed
where request is not null
