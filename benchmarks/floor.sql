-- The floor: what the pipeline's SQL cannot be expected to beat. One script, by hand, for one purpose: from the lake's Parquet files to the same marts,
-- as fast as DuckDB 2.0 does it, with nothing kept for a next run. benchmarks/run.py runs it statement by statement and checks that its tables equal dbt's.
--
-- What it may do and the models may not: number sessions and persons by position, keep everything between the marts in temporary tables, know that there
-- is one goal and which rates there are, and forget who was whom in the past. What both do: read the same files, leave out the losers of conflicts, classify
-- every event, resolve people, hash the same ids, write the same columns to disk.
--
-- Given: variables lake_files (list of paths), parameters $ipad and $opad (the key blocks of the secret), the pipeline's warehouse attached as `pipeline`
-- (for the list of losers alone). Each statement's name stands before it; /benchmarks/run.py knows which model it stands beside.

-- statement: losers
create temp table losers as
select event_id, content_digest from pipeline.raw.event_conflicts where not is_survivor;

-- statement: lake
create temp view lake as
select e.*
from read_parquet(getvariable('lake_files'), hive_partitioning = false) as e
where not exists (select 1 from losers where losers.event_id = e.event_id and losers.content_digest = e.content_digest);

-- What repeats is judged once: a user agent, a way to arrive, a type of event.
-- statement: agents
create temp table agents as
select
    user_agent,
    coalesce(regexp_matches(
        lower(user_agent),
        'bot|crawl|spider|headlesschrome|phantomjs|lighthouse|pagespeed|facebookexternalhit|slurp|bingpreview|mediapartners-google|python-requests|python-urllib|aiohttp|httpx|go-http-client|okhttp/|apache-httpclient|libwww-perl|java/|curl/|wget/|scrapy|selenium|puppeteer|playwright|pingdom|uptimerobot|statuscake|gtmetrix|ia_archiver|archive[.]org|google-inspectiontool|google-read-aloud|feedfetcher|whatsapp/|embedly|vkshare'
    ), false) as is_bot
from (select distinct user_agent from lake);

-- statement: arrivals
create temp table arrivals as
with said as (
    select distinct source_channel, utm_source, utm_medium, utm_campaign, click_id_type, referrer_host, page_host from lake
),

read as (
    select
        *,
        case
            when source_channel is null or lower(source_channel) in ('', 'web', 'website', 'site', 'app', 'mobile_app', 'mobile', 'server') then null
            when lower(source_channel) in ('e-mail', 'e_mail', 'mail', 'newsletter') then 'email'
            when lower(source_channel) in ('push', 'web_push', 'app_push') then 'mobile_push'
            when lower(source_channel) in ('text', 'text_message') then 'sms'
            when lower(source_channel) = 'social' then 'organic_social'
            when lower(source_channel) in ('ads', 'ad', 'paid') then 'paid_other'
            else lower(source_channel)
        end as declared,
        case
            when referrer_host is null or referrer_host = page_host then false
            when page_host is null then true
            else regexp_extract(lower(referrer_host), '([^.]+[.]((co|com|net|org|gov|edu|ac|or|ne|go|gob|nom)[.][a-z][a-z]|[^.]+))$', 1)
                <> regexp_extract(lower(page_host), '([^.]+[.]((co|com|net|org|gov|edu|ac|or|ne|go|gob|nom)[.][a-z][a-z]|[^.]+))$', 1)
        end as is_referred,
        coalesce(
            click_id_type in ('gclid', 'gbraid', 'wbraid', 'msclkid', 'yclid', 'ttclid', 'twclid', 'li_fat_id', 'epik', 'rdt_cid', 'sccid', 'scclid')
            or (click_id_type = 'fbclid' and (utm_campaign is not null or utm_medium is not null)
                and coalesce(lower(utm_medium), '') not in ('social', 'social-network', 'social-media', 'sm', 'social network', 'social media', 'organic', 'referral', 'email', 'sms')),
            false
        ) as click_says_paid
    from said
),

tagged as (
    select
        *,
        case when utm_source is not null then lower(utm_source) when is_referred then lower(referrer_host) end as origin,
        case when utm_medium is not null then lower(utm_medium) when is_referred and utm_source is null and utm_campaign is null then 'referral' end as medium,
        lower(utm_campaign) as campaign
    from read
),

categorised as (
    select
        *,
        coalesce(regexp_matches(medium, '^(.*cp.*|ppc|retargeting|paid.*)$'), false) or click_says_paid as is_paid,
        coalesce(regexp_matches(campaign, '^(.*(([^a-df-z]|^)shop|shopping).*)$'), false) as is_shopping_campaign,
        coalesce(
            case
                when origin is null then null
                when regexp_matches(origin, '^(mail|outlook|webmail|docs|drive|calendar|accounts|classroom|support|cloud|developer|developers|aws|pay|checkout)[.]') then null
                when regexp_matches(origin, '(^shopping[.]|^(www[.])?shop[.]app$|^((www|m|mobile|l|lm|go|out|old|i|web|app|en|de|fr|r|cn|us|uk|shop|tv|music|images|news|maps|android-app:)[.])?(amazon|ebay|etsy|walmart|aliexpress|alibaba|shopzilla|idealo|pricegrabber|shopping|mercadolibre|mercadolivre|rakuten|zalando|otto|allegro|wish|temu|shein|shopee|lazada|flipkart|jd|taobao|tmall|cdiscount|fnac|bol|ricardo|galaxus|digitec|toppreise|kelkoo|pricerunner|bestbuy|newegg|wayfair|overstock|homedepot|costco|nextag|bizrate|igshopping|googleshopping|google-shopping|google_shopping)([.](com|co))?([.][a-z]+)?$)') then 'shopping'
                when regexp_matches(origin, '(^video[.]|^((www|m|mobile|l|lm|go|out|old|i|web|app|en|de|fr|r|cn|us|uk|shop|tv|music|images|news|maps|android-app:)[.])?(youtube|youtu|vimeo|dailymotion|twitch|netflix|hulu|disneyplus|iqiyi|youku|bilibili|rutube|wistia|veoh|crackle|ted|vevo|utreon|viddler|niconico|nicovideo)([.](com|co))?([.][a-z]+)?$)') then 'video'
                when regexp_matches(origin, '(^t[.]co$|^x([.]com)?$|^t[.]me$|^ok[.]ru$|^away[.]vk[.]com$|^news[.]ycombinator[.]com$|[.](facebook|tumblr|blogspot|wordpress|substack|pinterest|reddit)[.][a-z.]+$|^((www|m|mobile|l|lm|go|out|old|i|web|app|en|de|fr|r|cn|us|uk|shop|tv|music|images|news|maps|android-app:)[.])?(facebook|fb|instagram|ig|messenger|twitter|linkedin|lnkd|pinterest|reddit|snapchat|tiktok|threads|bsky|mastodon|tumblr|whatsapp|telegram|wechat|weixin|weibo|vk|vkontakte|odnoklassniki|quora|discord|disqus|flickr|foursquare|goodreads|hootsuite|buffer|kakao|kakaotalk|line|livejournal|medium|meetup|meta|mixi|myspace|nextdoor|ning|plurk|qzone|renren|scribd|skype|slideshare|smugmug|stackoverflow|stackexchange|stumbleupon|substack|taringa|tinder|trello|tripadvisor|typepad|viadeo|viber|wattpad|wordpress|blogger|blogspot|xing|yammer|yelp|ycombinator|producthunt|hatena|ameblo|fark|digg|deviantart|dribbble|behance|badoo|9gag|imgur|social)([.](com|co))?([.][a-z]+)?$)') then 'social'
                when regexp_matches(origin, '(^g[.]co$|^(www[.])?so[.]com$|^(www[.])?info[.]com$|^([a-z0-9-]+[.])*(google|bing|yahoo|duckduckgo|baidu|yandex|naver|ecosia|msn)([.](com|co))?[.][a-z]+$|^((www|m|mobile|l|lm|go|out|old|i|web|app|en|de|fr|r|cn|us|uk|shop|tv|music|images|news|maps|android-app:)[.])?(google|bing|yahoo|duckduckgo|ecosia|baidu|yandex|naver|daum|seznam|qwant|startpage|ask|aol|lycos|sogou|rambler|kvasir|onet|virgilio|searchencrypt|search|search-results|swisscows|brave|presearch|mojeek|metager|gibiru|dogpile|webcrawler|exalead|alice|biglobe|centrum|conduit|comcast|babylon|incredimail|mamma|msn|najdi|netscape|terra|tut|ukr|wp|ya|avg|cnn|eniro|globo|auone|sapo|zapmeta|coccoc|petalsearch|nate)([.](com|co))?([.][a-z]+)?$)') then 'search'
            end,
            case
                when click_id_type in ('gclid', 'gbraid', 'wbraid', 'msclkid', 'yclid') then 'search'
                when click_id_type in ('fbclid', 'ttclid', 'twclid', 'li_fat_id', 'epik', 'rdt_cid', 'sccid', 'scclid', 'igshid') then 'social'
            end
        ) as category
    from tagged
)

select
    cast(row_number() over () as integer) as arrival,
    source_channel, utm_source, utm_medium, utm_campaign, click_id_type, referrer_host, page_host,
    case
        when declared is not null then declared
        when origin is null and medium is null and campaign is null and click_id_type is null then 'direct'
        when origin = '(direct)' and coalesce(medium, '(none)') in ('(not set)', '(none)') then 'direct'
        when instr(campaign, 'cross-network') > 0 then 'cross_network'
        when is_paid and (category = 'shopping' or is_shopping_campaign) then 'paid_shopping'
        when is_paid and category = 'search' then 'paid_search'
        when is_paid and category = 'social' then 'paid_social'
        when is_paid and category = 'video' then 'paid_video'
        when medium in ('display', 'banner', 'expandable', 'interstitial', 'cpm') or click_id_type = 'dclid' then 'display'
        when is_paid then 'paid_other'
        when click_id_type in ('irclickid', 'cjevent', 'awc', 'ranmid', 'ransiteid', 'clickref') then 'affiliates'
        when category = 'shopping' or is_shopping_campaign then 'organic_shopping'
        when category = 'social' or medium in ('social', 'social-network', 'social-media', 'sm', 'social network', 'social media') then 'organic_social'
        when category = 'video' or regexp_matches(medium, '^(.*video.*)$') then 'organic_video'
        when category = 'search' or medium = 'organic' then 'organic_search'
        when medium in ('referral', 'app', 'link') then 'referral'
        when origin in ('email', 'e-mail', 'e_mail', 'e mail') or medium in ('email', 'e-mail', 'e_mail', 'e mail') then 'email'
        when medium in ('affiliate', 'affiliates') then 'affiliates'
        when medium = 'audio' then 'audio'
        when origin = 'sms' or medium = 'sms' then 'sms'
        when regexp_matches(medium, '(push$|mobile|notification)') or origin = 'firebase' then 'mobile_push'
        else 'unassigned'
    end as channel
from categorised;

-- statement: types
create temp table types as
select
    cast(row_number() over () as integer) as type_number,
    event_type,
    case
        when event_type in ('order_completed') then 4
        when event_type in ('order_refunded', 'support_ticket_opened', 'support_ticket_solved', 'review_posted') then 5
        when event_type in ('product_added_to_cart', 'checkout_started') then 3
        when event_type in ('product_viewed', 'newsletter_subscribed', 'signed_up', 'logged_in', 'chat_started', 'chat_message_sent', 'crm_call_logged', 'email_clicked', 'store_visited') then 2
        when event_type in ('page_viewed', 'ad_clicked', 'social_post_clicked', 'email_opened', 'push_opened') then 1
    end as stage_rank,
    coalesce(event_type in ('order_completed'), false) as is_conversion_event,
    event_type in ('page_viewed', 'screen_viewed') as is_page_view,
    case event_type
        when 'product_added_to_cart' then 'cart_addition' when 'checkout_started' then 'checkout' when 'newsletter_subscribed' then 'newsletter'
        when 'signed_up' then 'account' when 'chat_started' then 'chat'
    end as micro_conversion
from (select distinct event_type from lake);

-- statement: stages
create temp table stages as
select * from (values (1, 'awareness'), (2, 'consideration'), (3, 'intent'), (4, 'purchase'), (5, 'post_sale')) as named (stage_rank, stage);

-- statement: rates
create temp table rates as
select currency, valid_from, lead(valid_from) over (partition by currency order by valid_from asc nulls first) as valid_to, rate
from read_csv(getvariable('rates_file'), columns = {'valid_from': 'date', 'currency': 'varchar', 'rate': 'decimal(18, 8)'}, header = true);

-- Lists of identifiers repeat too: one row for each list that counted events hold, so that keys are hashed once a list and not once an event.
-- statement: lists
create temp table lists as
select
    cast(row_number() over () as integer) as list_number,
    identifiers,
    list_concat(list_filter(identifiers, lambda one: one.type = 'user_id'), list_filter(identifiers, lambda one: one.type <> 'user_id')) as ordered,
    list_transform(ordered, lambda one: cast(md5_number_lower(one.type || '|' || one.value) >> 1 as bigint)) as node_ids,
    first_seen_at,
    last_seen_at
from (
    select e.identifiers, min(e.occurred_at) as first_seen_at, max(e.occurred_at) as last_seen_at
    from lake as e
    inner join agents on agents.user_agent is not distinct from e.user_agent
    where not agents.is_bot and not coalesce(e.is_internal, false) and e.identifiers is not null
    group by e.identifiers
);

-- statement: nodes
create temp table nodes as
with seen as (
    select unnest(node_ids) as node_id, unnest(ordered) as identifier, first_seen_at, last_seen_at from lists
),

grouped as (
    select node_id, min(identifier) as identifier, min(first_seen_at) as first_seen_at, max(last_seen_at) as last_seen_at from seen group by node_id
),

pairs as (
    select distinct node_a, node_b
    from (select node_a, unnest(node_ids) as node_b from (select unnest(node_ids) as node_a, node_ids from lists where len(node_ids) > 1))
    where node_a <> node_b
),

degrees as (
    select node_a as node_id, count(*) as neighbour_count from pairs group by node_a
)

select
    node_id,
    identifier.type as identifier_type,
    first_seen_at,
    last_seen_at,
    coalesce(neighbour_count, 0) > 20 as is_over_shared,
    row_number() over (order by first_seen_at asc nulls first, identifier.type asc nulls first, identifier.value asc nulls first) as position,
    'c_' || left(sha256($opad::blob || unhex(sha256($ipad::blob || encode(identifier.type || '|' || identifier.value)))), 24) as node_customer_id
from grouped
left join degrees using (node_id);

-- statement: links
create temp table links as
select distinct a.position as node_a, b.position as node_b
from (select node_a, unnest(node_ids) as node_b from (select unnest(node_ids) as node_a, node_ids from lists where len(node_ids) > 1)) as pairs
inner join nodes as a on a.node_id = pairs.node_a and not a.is_over_shared
inner join nodes as b on b.node_id = pairs.node_b and not b.is_over_shared
where a.position <> b.position;

-- The current map alone: the least position spreads along the links until nothing changes.
-- statement: members
create temp table members as
with recursive labelled (position, person) using key (position) as (
    select node_a, least(node_a, min(node_b)) from links group by node_a
    union
    select links.node_b, min(fresh.person)
    from labelled as fresh
    inner join links on links.node_a = fresh.position
    inner join recurring.labelled as known on known.position = links.node_b
    where fresh.person < known.person
    group by links.node_b
)

select nodes.node_id, nodes.position, coalesce(labelled.person, nodes.position) as person
from nodes
left join labelled using (position)
where not nodes.is_over_shared;

-- statement: persons
create temp table persons as
select position as person, node_customer_id as customer_id from nodes where position in (select person from members);

-- statement: list_persons
create temp table list_persons as
select list_number, identifiers, min_by(person, place) as person
from (select list_number, identifiers, unnest(node_ids) as node_id, generate_subscripts(node_ids, 1) as place from lists) as placed
inner join members using (node_id)
group by list_number, identifiers;

-- What is sorted is narrow: keys of 8 and 16 bytes and small numbers. A UUID sorts as the event id's text does.
-- statement: narrow
create temp table narrow as
select
    cast(e.event_id as uuid) as event_key,
    e.occurred_at,
    cast(md5_number_lower(e.session_key) >> 1 as bigint) as session_key_id,
    list_persons.person,
    arrivals.arrival,
    types.type_number
from lake as e
inner join agents on agents.user_agent is not distinct from e.user_agent
inner join types on types.event_type = e.event_type
inner join arrivals
    on arrivals.source_channel is not distinct from e.source_channel and arrivals.utm_source is not distinct from e.utm_source
    and arrivals.utm_medium is not distinct from e.utm_medium and arrivals.utm_campaign is not distinct from e.utm_campaign
    and arrivals.click_id_type is not distinct from e.click_id_type and arrivals.referrer_host is not distinct from e.referrer_host
    and arrivals.page_host is not distinct from e.page_host
left join list_persons on list_persons.identifiers = e.identifiers
where not agents.is_bot and not coalesce(e.is_internal, false);

-- A touch is a session, or an event without one. Its number stands for it until its name is needed.
-- statement: sessionized
create temp table sessionized as
with gapped as (
    select *, epoch_us(occurred_at) - lag(epoch_us(occurred_at)) over (partition by session_key_id order by occurred_at, event_key) as gap_us
    from narrow
    where session_key_id is not null
),

numbered as (
    select
        *,
        sum(case when gap_us > 1800000000 then 1 else 0 end) over (partition by session_key_id order by occurred_at, event_key rows unbounded preceding) as session_number,
        row_number() over (partition by session_key_id order by occurred_at, event_key) as place
    from gapped
)

select event_key, occurred_at, session_key_id, cast(session_number as integer) as session_number, cast(place as integer) as place, person, arrival, type_number from numbered
union all
select event_key, occurred_at, null, null, 1, person, arrival, type_number from narrow where session_key_id is null;

-- statement: sessions
create temp table sessions as
select
    cast(row_number() over () as integer) as session,
    *,
    's_' || substr(md5(cast(session_key_id as varchar) || '|' || cast(epoch_us(started_at) as varchar) || '|' || replace(cast(first_key as varchar), '-', '')), 1, 24) as session_id
from (
    select
        session_key_id,
        session_number,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        min_by(event_key, place) as first_key,
        max_by(event_key, place) as last_key,
        min_by(arrival, place) as arrival,
        min(person) as person,
        min(person) = max(person) as has_one_person,
        cast(count(*) as integer) as event_count,
        cast(count(*) filter (where is_page_view) as integer) as page_view_count,
        cast(count(micro_conversion) as integer) as micro_conversion_count,
        max(stage_rank) as max_stage_rank
    from sessionized
    inner join types using (type_number)
    where session_key_id is not null
    group by session_key_id, session_number
);

-- An order reported twice within a day is one conversion. Crawlers' and staff's orders are conversions too, of nobody.
-- statement: conversions
create temp table conversions as
with reports as (
    select
        e.event_id, e.order_id, e.source, e.occurred_at, e.value, e.currency,
        cast(case when e.currency = 'USD' then e.value else e.value * rates.rate end as decimal(18, 4)) as value_reporting,
        agents.is_bot, coalesce(e.is_internal, false) as is_internal, arrivals.channel
    from lake as e
    inner join types on types.event_type = e.event_type and types.is_conversion_event
    inner join agents on agents.user_agent is not distinct from e.user_agent
    inner join arrivals
        on arrivals.source_channel is not distinct from e.source_channel and arrivals.utm_source is not distinct from e.utm_source
        and arrivals.utm_medium is not distinct from e.utm_medium and arrivals.utm_campaign is not distinct from e.utm_campaign
        and arrivals.click_id_type is not distinct from e.click_id_type and arrivals.referrer_host is not distinct from e.referrer_host
        and arrivals.page_host is not distinct from e.page_host
    left join rates
        on rates.currency = e.currency and e.value is not null
        and rates.valid_from <= cast(e.occurred_at as date) and (rates.valid_to is null or cast(e.occurred_at as date) < rates.valid_to)
),

gapped as (
    select *, epoch_us(occurred_at) - lag(epoch_us(occurred_at)) over (partition by coalesce(order_id, 'event|' || event_id), order_id is null, value, currency order by occurred_at, event_id) as gap_us
    from reports
),

chained as (
    select *, sum(case when gap_us > 86400000000 then 1 else 0 end) over (
        partition by coalesce(order_id, 'event|' || event_id), order_id is null, value, currency order by occurred_at, event_id rows unbounded preceding) as chain_number
    from gapped
),

counted as (
    select
        *,
        row_number() over (partition by coalesce(order_id, 'event|' || event_id), order_id is null, value, currency, chain_number order by is_bot or is_internal, occurred_at, event_id) as report_number,
        cast(count(*) over (partition by coalesce(order_id, 'event|' || event_id), order_id is null, value, currency, chain_number) as integer) as report_count
    from chained
)

select * exclude (gap_us, chain_number, report_number), 'o_' || substr(md5('purchase|' || event_id), 1, 24) as conversion_id, cast(event_id as uuid) as event_key
from counted
where report_number = 1;

-- Within a touch, a run is a stretch of one stage; a conversion stands alone. Only what starts a run goes on from here.
-- statement: runs
create temp table runs as
with touched as (
    select
        session_key_id, session_number, person, event_key, occurred_at, place, arrival, types.stage_rank,
        types.is_conversion_event and exists (select 1 from conversions where conversions.event_key = sessionized.event_key) as is_conversion
    from sessionized
    inner join types using (type_number)
    where person is not null
),

staged as (
    select
        *,
        coalesce(last_value(stage_rank ignore nulls) over touch, 1) as running_rank,
        row_number() over touch as touch_place
    from touched
    where session_key_id is not null
    window touch as (partition by session_key_id, session_number, person order by place rows unbounded preceding)
),

cut as (
    select
        *,
        lag(event_key) over touch as key_before,
        lag(occurred_at) over touch as occurred_before,
        coalesce(is_conversion or lag(is_conversion) over touch or lag(running_rank) over touch <> running_rank, true) as starts_run,
        last_value(event_key) over whole_touch as touch_last_key,
        last_value(occurred_at) over whole_touch as touch_ended_at,
        count(*) over whole_touch as touch_event_count
    from staged
    window
        touch as (partition by session_key_id, session_number, person order by place),
        whole_touch as (partition by session_key_id, session_number, person order by place rows between unbounded preceding and unbounded following)
),

ended as (
    select
        *,
        row_number() over touch as run_number,
        coalesce(lead(key_before) over touch, touch_last_key) as last_key,
        coalesce(lead(occurred_before) over touch, touch_ended_at) as ended_at,
        coalesce(lead(touch_place) over touch, touch_event_count + 1) - touch_place as event_count,
        first_value(event_key) over touch as touch_first_key,
        first_value(arrival) over touch as touch_arrival
    from cut
    where starts_run
    window touch as (partition by session_key_id, session_number, person order by touch_place)
)

select
    sessions.session, ended.person, ended.touch_first_key, ended.touch_arrival as arrival, cast(ended.run_number as integer) as run_number,
    ended.occurred_at as started_at, ended.ended_at, ended.event_key as first_key, ended.last_key, ended.running_rank as stage_rank, ended.is_conversion,
    cast(ended.event_count as integer) as event_count
from ended
inner join sessions on sessions.session_key_id = ended.session_key_id and sessions.session_number = ended.session_number
union all
select null, person, event_key, arrival, 1, occurred_at, occurred_at, event_key, event_key, coalesce(stage_rank, 1), is_conversion, 1
from touched
where session_key_id is null;

-- statement: touches
create temp table touches as
select
    runs.touch_first_key, runs.person, runs.session, runs.arrival, runs.started_at,
    't_' || substr(md5(coalesce(sessions.session_id, replace(cast(runs.touch_first_key as varchar), '-', '')) || '|' || persons.customer_id), 1, 24) as touchpoint_id
from runs
inner join persons using (person)
left join sessions using (session)
where runs.run_number = 1;

-- statement: fct_journey_steps
create table marts.fct_journey_steps as
with counted as (
    select *, sum(cast(is_conversion as integer)) over (partition by person order by started_at, first_key rows unbounded preceding) - cast(is_conversion as integer) as earlier_conversion_count
    from runs
),

-- What follows the last conversion of its touch belongs to that conversion's journey.
last_conversions as (
    select touch_first_key, person, max(run_number) as last_run_number, max(earlier_conversion_count) as journey_count
    from counted
    where is_conversion
    group by touch_first_key, person
),

assigned as (
    select
        counted.*,
        coalesce(counted.run_number > last_conversions.last_run_number, false) as is_after_conversion,
        cast(case when counted.run_number > last_conversions.last_run_number then last_conversions.journey_count else counted.earlier_conversion_count end as integer) as journey_count
    from counted
    left join last_conversions on last_conversions.touch_first_key = counted.touch_first_key and last_conversions.person = counted.person
),

paused as (
    select *, epoch_us(started_at) - epoch_us(max(ended_at) over (partition by person, journey_count order by started_at, first_key rows between unbounded preceding and 1 preceding)) as pause_us
    from assigned
),

split as (
    select *, sum(case when pause_us > 2592000000000 then 1 else 0 end) over (partition by person, journey_count order by started_at, first_key rows unbounded preceding) as attempt_number
    from paused
),

ordered as (
    select
        *,
        cast(row_number() over journey as integer) as step_number,
        lag(stage_rank) over journey as previous_rank,
        first_value(first_key) over journey as journey_first_key
    from split
    window journey as (partition by person, journey_count, attempt_number order by started_at, first_key)
),

named as (
    select *, replace(cast(first_key as varchar), '-', '') as first_event_id from ordered
)

select
    named.first_event_id || '_purchase' as journey_step_id,
    'j_' || substr(md5(persons.customer_id || '|purchase|' || replace(cast(named.journey_first_key as varchar), '-', '')), 1, 24) as journey_id,
    named.step_number,
    persons.customer_id,
    'purchase' as goal,
    sessions.session_id,
    touches.touchpoint_id,
    arrivals.channel,
    stages.stage,
    previous_stages.stage as previous_stage,
    coalesce(named.stage_rank < named.previous_rank, false) as is_jump_back,
    named.is_conversion,
    named.is_after_conversion,
    case when named.is_conversion then 'o_' || substr(md5('purchase|' || named.first_event_id), 1, 24) end as conversion_id,
    named.started_at,
    named.ended_at,
    named.event_count,
    named.first_event_id,
    replace(cast(named.last_key as varchar), '-', '') as last_event_id
from named
inner join persons using (person)
inner join touches on touches.touch_first_key = named.touch_first_key and touches.person = named.person
inner join arrivals on arrivals.arrival = named.arrival
inner join stages on stages.stage_rank = named.stage_rank
left join stages as previous_stages on previous_stages.stage_rank = named.previous_rank
left join sessions on sessions.session = named.session;

-- statement: fct_journeys
create table marts.fct_journeys as
with steps as (
    select journey_id, customer_id, touchpoint_id, channel, stages.stage_rank, step_number, is_jump_back, is_after_conversion, conversion_id, started_at, ended_at, event_count, first_event_id
    from marts.fct_journey_steps
    inner join stages using (stage)
),

journeys as (
    select
        journey_id,
        min(customer_id) as customer_id,
        min(started_at) as started_at,
        max(ended_at) as ended_at,
        min(conversion_id) as conversion_id,
        cast(count(*) as integer) as step_count,
        cast(sum(event_count) as integer) as event_count,
        max(stage_rank) as max_stage_rank,
        cast(count(*) filter (where is_jump_back) as integer) as jump_back_count,
        min(first_event_id) filter (where step_number = 1) as first_event_id
    from steps
    group by journey_id
),

paths as (
    select
        journey_id,
        cast(count(*) as integer) as touch_count,
        min_by(channel, touch_order) as first_channel,
        max_by(channel, touch_order) as last_channel,
        array_to_string(list(channel order by touch_order asc nulls first), ' > ') as channel_path
    from (select journey_id, min(channel) as channel, min(step_number) as touch_order from steps where not is_after_conversion group by journey_id, touchpoint_id)
    group by journey_id
)

select
    journeys.journey_id,
    journeys.customer_id,
    'purchase' as goal,
    case
        when conversions.occurred_at is not null then 'converted'
        when epoch_us((select max(received_at) from read_parquet(getvariable('lake_files'), hive_partitioning = false))) - epoch_us(journeys.ended_at) > 2592000000000 then 'lapsed'
        else 'open'
    end as status,
    journeys.started_at,
    journeys.ended_at,
    conversions.occurred_at as converted_at,
    journeys.conversion_id,
    conversions.value_reporting as conversion_value,
    paths.touch_count,
    journeys.step_count,
    journeys.event_count,
    paths.first_channel,
    paths.last_channel,
    paths.channel_path,
    stages.stage as max_stage,
    journeys.jump_back_count,
    (epoch_us(coalesce(conversions.occurred_at, journeys.ended_at)) - epoch_us(journeys.started_at)) / 86400000000::double as duration_days,
    journeys.first_event_id
from journeys
inner join paths using (journey_id)
inner join stages on stages.stage_rank = journeys.max_stage_rank
left join conversions on conversions.conversion_id = journeys.conversion_id;

-- statement: fct_conversions
create table marts.fct_conversions as
select
    conversions.conversion_id,
    'purchase' as goal,
    conversions.event_id,
    conversions.order_id,
    conversions.source,
    persons.customer_id,
    steps.journey_id,
    sessions.session_id,
    steps.touchpoint_id,
    coalesce(steps.channel, conversions.channel) as channel,
    conversions.occurred_at,
    cast(conversions.occurred_at as date) as reporting_date,
    conversions.value,
    conversions.currency,
    conversions.value_reporting,
    conversions.is_bot,
    conversions.is_internal,
    conversions.report_count
from conversions
left join sessionized using (event_key)
left join sessions on sessions.session_key_id = sessionized.session_key_id and sessions.session_number = sessionized.session_number
left join persons on persons.person = sessionized.person
left join marts.fct_journey_steps as steps on steps.conversion_id = conversions.conversion_id;

-- statement: dim_customers
create table marts.dim_customers as
with identified as (
    select
        members.person,
        min(nodes.first_seen_at) as first_seen_at,
        max(nodes.last_seen_at) as last_seen_at,
        cast(count(*) as integer) as identifier_count,
        cast(count(*) filter (where nodes.identifier_type = 'anonymous_id') as integer) as anonymous_id_count
    from members
    inner join nodes using (node_id)
    group by members.person
),

active as (
    select
        person,
        cast(sum(event_count) as bigint) as event_count,
        cast(count(session) filter (where run_number = 1) as integer) as session_count,
        cast(count(*) filter (where run_number = 1) as integer) as touchpoint_count,
        min_by(arrival, row(started_at, first_key)) as first_arrival,
        max_by(arrival, row(started_at, first_key)) as last_arrival
    from runs
    group by person
),

converted as (
    select customer_id, cast(count(*) as integer) as conversion_count, sum(value_reporting) as revenue_amount, min(occurred_at) as first_converted_at, max(occurred_at) as last_converted_at
    from marts.fct_conversions
    where customer_id is not null
    group by customer_id
)

select
    persons.customer_id,
    identified.first_seen_at,
    identified.last_seen_at,
    identified.identifier_count,
    identified.anonymous_id_count,
    coalesce(active.event_count, 0) as event_count,
    coalesce(active.session_count, 0) as session_count,
    coalesce(active.touchpoint_count, 0) as touchpoint_count,
    coalesce(converted.conversion_count, 0) as conversion_count,
    cast(coalesce(converted.revenue_amount, 0) as decimal(18, 4)) as revenue_amount,
    first_arrivals.channel as first_channel,
    last_arrivals.channel as last_channel,
    converted.first_converted_at,
    converted.last_converted_at
from identified
inner join persons using (person)
left join active using (person)
left join arrivals as first_arrivals on first_arrivals.arrival = active.first_arrival
left join arrivals as last_arrivals on last_arrivals.arrival = active.last_arrival
left join converted on converted.customer_id = persons.customer_id;

-- statement: dim_customer_aliases
create table marts.dim_customer_aliases as
select nodes.node_customer_id as alias_customer_id, persons.customer_id
from members
inner join nodes using (node_id)
inner join persons using (person);

-- The wide columns are joined last, and written once.
-- statement: fct_events
create table marts.fct_events as
select
    e.event_id, e.source, e.source_event_id, e.event_type, e.occurred_at, e.received_at, e.session_key, e.anonymous_id, e.user_id, e.identifiers, e.source_channel,
    e.utm_source, e.utm_medium, e.utm_campaign, e.utm_term, e.utm_content, e.click_id_type, e.click_id, e.referrer, e.referrer_host, e.page_url, e.page_host, e.page_path, e.screen,
    e.user_agent, e.device_type, e.os, e.browser, e.country, e.region, e.city, e.language, e.order_id, e.currency, e.properties, e.text, e.consent_scopes,
    e.value,
    cast(case when e.currency = 'USD' then e.value else e.value * rates.rate end as decimal(18, 4)) as value_reporting,
    coalesce(e.is_internal, false) as is_internal,
    agents.is_bot,
    not agents.is_bot and not coalesce(e.is_internal, false) as is_counted,
    types.is_conversion_event,
    types.micro_conversion,
    arrivals.channel,
    stages.stage,
    sessions.session_id,
    persons.customer_id,
    coalesce(sessionized.session_key_id, cast(md5_number_lower(e.session_key) >> 1 as bigint)) as session_key_id,
    cast(e.occurred_at as date) as reporting_date
from lake as e
inner join agents on agents.user_agent is not distinct from e.user_agent
inner join types on types.event_type = e.event_type
inner join arrivals
    on arrivals.source_channel is not distinct from e.source_channel and arrivals.utm_source is not distinct from e.utm_source
    and arrivals.utm_medium is not distinct from e.utm_medium and arrivals.utm_campaign is not distinct from e.utm_campaign
    and arrivals.click_id_type is not distinct from e.click_id_type and arrivals.referrer_host is not distinct from e.referrer_host
    and arrivals.page_host is not distinct from e.page_host
left join stages on stages.stage_rank = types.stage_rank
left join sessionized on sessionized.event_key = cast(e.event_id as uuid)
left join sessions on sessions.session_key_id = sessionized.session_key_id and sessions.session_number = sessionized.session_number
left join persons on persons.person = sessionized.person
left join rates
    on rates.currency = e.currency and e.value is not null
    and rates.valid_from <= cast(e.occurred_at as date) and (rates.valid_to is null or cast(e.occurred_at as date) < rates.valid_to);

-- statement: fct_sessions
create table marts.fct_sessions as
with converted as (
    select sessionized.session_key_id, sessionized.session_number, cast(count(*) as integer) as conversion_count
    from conversions
    inner join sessionized using (event_key)
    group by sessionized.session_key_id, sessionized.session_number
)

select
    sessions.session_id,
    sessions.session_key_id,
    landings.anonymous_id,
    landings.user_id,
    case when sessions.has_one_person then persons.customer_id end as customer_id,
    landings.source,
    sessions.started_at,
    sessions.ended_at,
    cast(floor((epoch_us(sessions.ended_at) - epoch_us(sessions.started_at)) / 1000000.0) as bigint) as duration_seconds,
    sessions.event_count,
    sessions.page_view_count,
    coalesce(converted.conversion_count, 0) as conversion_count,
    sessions.micro_conversion_count,
    arrivals.channel,
    landings.utm_source,
    landings.utm_medium,
    landings.utm_campaign,
    landings.referrer_host,
    landings.page_path as landing_page_path,
    landings.screen as landing_screen,
    landings.device_type,
    landings.country,
    epoch_us(sessions.ended_at) - epoch_us(sessions.started_at) >= 10000000 or coalesce(converted.conversion_count, 0) >= 1 or sessions.page_view_count >= 2 as is_engaged,
    stages.stage as max_stage,
    landings.event_id as first_event_id,
    replace(cast(sessions.last_key as varchar), '-', '') as last_event_id,
    cast(sessions.started_at as date) as reporting_date
from sessions
inner join marts.fct_events as landings on cast(landings.event_id as uuid) = sessions.first_key
inner join arrivals on arrivals.arrival = sessions.arrival
left join persons on persons.person = sessions.person
left join stages on stages.stage_rank = sessions.max_stage_rank
left join converted on converted.session_key_id = sessions.session_key_id and converted.session_number = sessions.session_number;

-- statement: fct_touchpoints
create table marts.fct_touchpoints as
select
    touches.touchpoint_id,
    persons.customer_id,
    touches.started_at as occurred_at,
    arrivals.channel,
    events.source,
    events.event_type,
    events.utm_source,
    events.utm_medium,
    events.utm_campaign,
    events.utm_term,
    events.utm_content,
    events.click_id_type,
    events.referrer_host,
    sessions.session_id,
    events.event_id
from touches
inner join persons using (person)
inner join arrivals using (arrival)
inner join marts.fct_events as events on cast(events.event_id as uuid) = touches.touch_first_key
left join sessions using (session);
