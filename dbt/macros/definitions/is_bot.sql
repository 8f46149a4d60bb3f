{#
  Is the event a program's? Its user agent says bot, crawl or spider, or is one of a short list of tools that say nothing of the kind,
  or holds one of the project's own `bot_user_agents`. An event without a user agent is taken for a person's.
#}
{% macro is_bot(user_agent) -%}
    {%- set said = "bot|crawl|spider" -%}
    {%- set named = ["headlesschrome", "phantomjs", "lighthouse", "pagespeed", "facebookexternalhit", "slurp", "bingpreview", "mediapartners-google",
        "python-requests", "python-urllib", "aiohttp", "httpx", "go-http-client", "okhttp/", "apache-httpclient", "libwww-perl", "java/", "curl/", "wget/",
        "scrapy", "selenium", "puppeteer", "playwright", "pingdom", "uptimerobot", "statuscake", "gtmetrix", "ia_archiver", "archive.org",
        "google-inspectiontool", "google-read-aloud", "feedfetcher", "whatsapp/", "embedly", "vkshare"] -%}
    coalesce(
        {{ x_matches("lower(" ~ user_agent ~ ")", sql_text(said ~ "|" ~ (named | join("|") | replace(".", "[.]")))) }}
        {%- for part in var('bot_user_agents') if part | trim %}
        or instr(lower({{ user_agent }}), {{ sql_text(part | lower) }}) > 0
        {%- endfor %},
        false)
{%- endmacro %}
