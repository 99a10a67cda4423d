-- Grain: one row an event, with the exposure that it is credited to; an exposure's is itself, an orphan's is null.
-- In: events, whose exposure_id is what the log itself says, or -1; :click_window and :purchase_window in microseconds;
--     :clicks_say and :purchases_say, whether any of the log's events can name an exposure: without, no sort for them.
-- A click that names an exposure goes to that one of its user, whatever its item; one that does not, to the last
-- exposure of its user and item. A purchase that names an exposure goes to the last click credited to that one; one
-- that does not, to the last credited click of its user and item. The cause comes at or before the effect and within
-- the window, or the event is an orphan. Among events of one time, kinds come in order (a delay of 0 counts), then ids.
with

events as (
    select
        *,
        if(kind = 0, event_id, exposure_id) as named_exposure_id
    from events
),

with_exposures as (
    select
        *,
        last_value(if(kind = 0, struct(event_at, event_id), null)) ignore nulls over of_name as named_exposure,
        last_value(if(kind = 0, struct(event_at, event_id), null)) ignore nulls over of_item as last_exposure
    from events
    window
        of_name as (
            partition by user_id, named_exposure_id
            order by event_at, kind, event_id
            rows between unbounded preceding and current row
        ),
        of_item as (
            partition by user_id, item_id
            order by event_at, kind, event_id
            rows between unbounded preceding and current row
        )
),

with_exposure as (
    select
        *,
        case when :clicks_say and exposure_id <> -1 then named_exposure else last_exposure end as exposure
    from with_exposures
),

with_credited_click as (
    select
        *,
        if(kind = 1 and event_at - exposure.event_at <= :click_window, exposure.event_id, null) as click_exposure_id
    from with_exposure
),

with_clicks as (
    select
        *,
        last_value(if(click_exposure_id is not null, struct(event_at, click_exposure_id), null))
            ignore nulls over of_item as last_click,
        last_value(if(click_exposure_id is not null, struct(event_at, click_exposure_id), null))
            ignore nulls over of_name as named_click
    from with_credited_click
    window
        of_item as (
            partition by user_id, item_id
            order by event_at, kind, event_id
            rows between unbounded preceding and current row
        ),
        of_name as (
            partition by user_id, if(kind = 2, exposure_id, click_exposure_id)
            order by event_at, kind, event_id
            rows between unbounded preceding and current row
        )
),

with_click as (
    select
        *,
        case when :purchases_say and exposure_id <> -1 then named_click else last_click end as click
    from with_clicks
)

select
    kind,
    event_id,
    user_id,
    item_id,
    event_at,
    features,
    case
        when kind = 0 then event_id
        when kind = 1 then click_exposure_id
        when event_at - click.event_at <= :purchase_window then click.click_exposure_id
    end as credited_exposure_id
from with_click
