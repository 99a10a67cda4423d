-- Grain: one row a request, with everything that a feature can come from.
-- In: requests, items, users; :time_zone.
with

requests as (
    select
        *,
        from_utc_timestamp(timestamp_micros(exposed_at), :time_zone) as local_time
    from requests
)

select
    requests.exposure_id,
    requests.user_id,
    requests.item_id,
    requests.exposed_at,
    requests.click,
    requests.purchase,
    requests.weight,
    requests.known_until,
    requests.statistics,
    requests.lists,
    requests.features as exposures,
    items.features as items,
    users.features as users,
    struct(
        cast(hour(requests.local_time) as bigint) as hour,
        cast(weekday(requests.local_time) as bigint) as weekday
    ) as clock,
    cast(to_date(requests.local_time) as string) as ds,
    requests.passthrough
from requests
left join items
    on
        requests.item_id = items.entity_id
        and requests.known_until >= items.valid_from
        and requests.known_until < items.valid_until
left join users
    on
        requests.user_id = users.entity_id
        and requests.known_until >= users.valid_from
        and requests.known_until < users.valid_until
