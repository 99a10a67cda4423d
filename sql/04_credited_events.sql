-- Grain: one row an event, with the exposure that it is credited to; an exposure's is itself, an orphan's is null.
-- In: events; :click_window and :purchase_window in microseconds; :clicks_say and :purchases_say, whether the log
--     itself says which exposure an event belongs to.
-- A click goes to the last exposure of its user and item at or before it, within the click window; a purchase to
-- the last credited click at or before it, within the purchase window. Where the log names the exposure, that
-- takes the item's place. Among events of one time, kinds come in order (a delay of 0 counts), then ids.
with

events as (
    select
        *,
        if(:clicks_say, exposure_id, item_id) as click_thread
    from events
),

with_last_exposure as (
    select
        *,
        last_value(if(kind = 0, struct(event_at, event_id), null)) ignore nulls over thread as exposure
    from events
    window
        thread as (
            partition by user_id, click_thread
            order by event_at, kind, event_id
            rows between unbounded preceding and current row
        )
),

with_credited_click as (
    select
        *,
        if(kind = 1 and event_at - exposure.event_at <= :click_window, exposure.event_id, null) as click_exposure_id
    from with_last_exposure
),

with_purchase_thread as (
    select
        *,
        if(:purchases_say, if(kind = 2, exposure_id, click_exposure_id), item_id) as purchase_thread
    from with_credited_click
),

with_last_click as (
    select
        *,
        last_value(if(click_exposure_id is not null, struct(event_at, click_exposure_id), null))
            ignore nulls over thread as click
    from with_purchase_thread
    window
        thread as (
            partition by user_id, purchase_thread
            order by event_at, kind, event_id
            rows between unbounded preceding and current row
        )
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
from with_last_click
