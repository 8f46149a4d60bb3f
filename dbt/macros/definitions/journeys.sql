{# Converted; else lapsed, once the pause since the last activity is over the timeout at data_now; else open. #}
{% macro journey_status(converted_at, ended_at) -%}
    case
        when {{ converted_at }} is not null then 'converted'
        when {{ x_epoch_us('(select data_now from ' ~ source('raw', 'run_clock') ~ ')') }} - {{ x_epoch_us(ended_at) }} > {{ journey_timeout_us() }} then 'lapsed'
        else 'open'
    end
{%- endmacro %}
