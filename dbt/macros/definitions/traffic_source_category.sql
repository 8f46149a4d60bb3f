{#
  The kind of site that a traffic source is: shopping, video, social, search, or NULL. A source is a utm_source or a referrer's host, in lower case.
  The lists are the common entries of GA4's published source categories, by the name's own label, so that google, www.google.ch and google.co.uk are one.
#}
{% macro traffic_source_category(source) -%}
    {%- set shopping = ["amazon", "ebay", "etsy", "walmart", "aliexpress", "alibaba", "shopzilla", "idealo", "pricegrabber", "shopping", "mercadolibre", "mercadolivre", "rakuten", "zalando", "otto", "allegro",
        "wish", "temu", "shein", "shopee", "lazada", "flipkart", "jd", "taobao", "tmall", "cdiscount", "fnac", "bol", "ricardo", "galaxus", "digitec", "toppreise", "kelkoo", "pricerunner", "bestbuy", "newegg", "wayfair",
        "overstock", "homedepot", "costco", "nextag", "bizrate", "igshopping", "googleshopping", "google-shopping", "google_shopping"] -%}
    {%- set video = ["youtube", "youtu", "vimeo", "dailymotion", "twitch", "netflix", "hulu", "disneyplus", "iqiyi", "youku", "bilibili", "rutube", "wistia", "veoh", "crackle", "ted", "vevo", "utreon", "viddler", "niconico", "nicovideo"] -%}
    {%- set social = ["facebook", "fb", "instagram", "ig", "messenger", "twitter", "linkedin", "lnkd", "pinterest", "reddit", "snapchat", "tiktok", "threads", "bsky", "mastodon", "tumblr", "whatsapp", "telegram", "wechat", "weixin",
        "weibo", "vk", "vkontakte", "odnoklassniki", "quora", "discord", "disqus", "flickr", "foursquare", "goodreads", "hootsuite", "buffer", "kakao", "kakaotalk", "line", "livejournal", "medium", "meetup", "meta", "mixi", "myspace",
        "nextdoor", "ning", "plurk", "qzone", "renren", "scribd", "skype", "slideshare", "smugmug", "stackoverflow", "stackexchange", "stumbleupon", "substack", "taringa", "tinder", "trello", "tripadvisor", "typepad", "viadeo", "viber", "wattpad",
        "wordpress", "blogger", "blogspot", "xing", "yammer", "yelp", "ycombinator", "producthunt", "hatena", "ameblo", "fark", "digg", "deviantart", "dribbble", "behance", "badoo", "9gag", "imgur", "social"] -%}
    {%- set search = ["google", "bing", "yahoo", "duckduckgo", "ecosia", "baidu", "yandex", "naver", "daum", "seznam", "qwant", "startpage", "ask", "aol", "lycos", "sogou", "rambler", "kvasir", "onet", "virgilio",
        "searchencrypt", "search", "search-results", "swisscows", "brave", "presearch", "mojeek", "metager", "gibiru", "dogpile", "webcrawler", "exalead", "alice", "biglobe", "centrum", "conduit", "comcast", "babylon", "incredimail",
        "mamma", "msn", "najdi", "netscape", "terra", "tut", "ukr", "wp", "ya", "avg", "cnn", "eniro", "globo", "auone", "sapo", "zapmeta", "coccoc", "petalsearch", "nate"] -%}
    {%- set bare = "^((www|m|mobile|l|lm|go|out|old|i|web|app|en|de|fr|r|cn|us|uk|shop|tv|music|images|news|maps|android-app:)[.])?" -%}
    case
        when {{ source }} is null then null
        when {{ x_matches(source, sql_text("^(mail|outlook|webmail|docs|drive|calendar|accounts|classroom|support|cloud|developer|developers|aws|pay|checkout)[.]")) }} then null
        when {{ x_matches(source, sql_text("(^shopping[.]|^(www[.])?shop[.]app$|" ~ bare ~ "(" ~ shopping | join("|") ~ ")([.](com|co))?([.][a-z]+)?$)")) }} then 'shopping'
        when {{ x_matches(source, sql_text("(^video[.]|" ~ bare ~ "(" ~ video | join("|") ~ ")([.](com|co))?([.][a-z]+)?$)")) }} then 'video'
        when {{ x_matches(source, sql_text("(^t[.]co$|^x([.]com)?$|^t[.]me$|^ok[.]ru$|^away[.]vk[.]com$|^news[.]ycombinator[.]com$|[.](facebook|tumblr|blogspot|wordpress|substack|pinterest|reddit)[.][a-z.]+$|" ~ bare ~ "(" ~ social | join("|") ~ ")([.](com|co))?([.][a-z]+)?$)")) }} then 'social'
        when {{ x_matches(source, sql_text("(^g[.]co$|^(www[.])?so[.]com$|^(www[.])?info[.]com$|^com[.]google[.]android[.]googlequicksearchbox$|^([a-z0-9-]+[.])*(google|bing|yahoo|duckduckgo|baidu|yandex|naver|ecosia|msn)([.](com|co))?[.][a-z]+$|" ~ bare ~ "(" ~ search | join("|") ~ ")([.](com|co))?([.][a-z]+)?$)")) }} then 'search'
    end
{%- endmacro %}
