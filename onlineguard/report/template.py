"""The page without its content: without other hosts; for light, dark and print, from 320 pixels up.

The only script that a browser runs in it is the one whose hash its policy names, so that no text of a slice ever runs.
"""

import base64
import hashlib
from importlib import resources
from string import Template

SCRIPT = (resources.files("onlineguard.report") / "report.js").read_text(encoding="utf-8")

STYLE = """
:root{color-scheme:light dark;--page:#f5f6f8;--card:#fff;--ink:#161b22;--soft:#57606a;--line:#e3e7ec;--series:#2b5580;
--score:#6b7683;--alarm:#c8381b;--label:#087f78}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--card:#161b22;--ink:#e6edf3;--soft:#9aa5b1;--line:#2a313a;
--series:#8dbbe8;--score:#8b96a3;--alarm:#ff7b5c;--label:#3ccabb}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font-variant-numeric:tabular-nums;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:72rem;margin:0 auto;padding:2.5rem clamp(.75rem,3vw,2rem) 4rem}
h1{font-size:1.75rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 1.5rem}
h2{font-size:1.15rem;margin:0;overflow-wrap:anywhere}
h3{font-size:.8rem;font-weight:600;margin:0 0 .4rem;overflow-wrap:anywhere}
small{font-weight:400;font-size:.85em;color:var(--soft)}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:.2em}
[hidden]{display:none}
:is(a,button,input,.wide,.panels):focus-visible{border-radius:4px;outline:2px solid var(--series);outline-offset:2px}
section,.overview{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:1.25rem clamp(.9rem,2.5vw,1.75rem);margin:0 0 1.25rem}
section{content-visibility:auto;contain-intrinsic-size:auto 34rem;scroll-margin-top:1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem;margin:0 0 1.5rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.8rem 1rem}
.tiles dt{color:var(--soft);font-size:.8rem}
.tiles dd{margin:0;font-size:1.3rem;font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{padding:.4rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);font-weight:400}
tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-size:.78rem}
th:first-child,td:first-child{text-align:left;padding-left:0}
td:last-child,th:last-child{padding-right:0}
tbody th{font-weight:600;white-space:normal;overflow-wrap:anywhere;min-width:14rem}
.by{max-width:9rem;overflow:hidden;text-overflow:ellipsis}
.slices :is(th,td):nth-child(2){text-align:left}
.spark svg{display:block;width:7rem;height:1.6rem;overflow:visible;margin:0 0 .3rem}
.find{display:flex;align-items:center;gap:1rem;margin:0 0 .8rem;color:var(--soft);font-size:.85rem}
input{font:inherit;color:var(--ink);background:var(--page);border:1px solid var(--soft);border-radius:8px;
padding:.45rem .75rem;width:min(18rem,100%)}
input::placeholder{color:var(--soft);opacity:1}
thead button{font:inherit;color:inherit;background:none;border:0;padding:.2rem 0;cursor:pointer}
thead button:hover,[aria-sort] button{color:var(--ink)}
[aria-sort] button::after{content:" \\2191"}[aria-sort=descending] button::after{content:" \\2193"}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;list-style:none;margin:0 0 1rem;padding:0 .25rem;font-size:.82rem;
color:var(--soft)}
.legend i{display:inline-block;width:1.3rem;height:0;margin-right:.45rem;vertical-align:.28em;border-top:2px solid}
.legend .series{color:var(--series)}.legend .score{color:var(--score)}
.legend .threshold{color:var(--alarm);border-top-style:dashed}
.legend .alarm,.legend .label{height:.4rem;vertical-align:.12em;border:0;background:currentColor;border-radius:2px}
.legend .alarm{color:var(--alarm)}.legend .label{color:var(--label)}
.facts{color:var(--soft);font-size:.85rem;margin:.1rem 0 1.1rem}
.overview .facts{margin:1rem 0 0}
.panels{touch-action:pan-y;cursor:crosshair}
.panel{margin-left:3.4rem;padding-bottom:.9rem}
.panel+.panel{margin-top:.2rem}
.panel h3{margin-bottom:.95rem}
.plot{position:relative;height:clamp(8rem,18vw,12rem)}
.panel+.panel .plot{height:clamp(6rem,12vw,8rem)}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible;
border-bottom:1px solid var(--soft)}
.y span,.x span{position:absolute;color:var(--soft);font-size:.75rem;line-height:1;white-space:nowrap}
.y span{right:calc(100% + .5rem);transform:translateY(-50%)}
.x{position:relative;height:1.3rem;margin-left:3.4rem}
.x span{top:.45rem;transform:translateX(-50%)}
.xname{margin:.15rem 0 0 3.4rem;color:var(--soft);font-size:.75rem;text-align:center}
svg{fill:none;stroke-linejoin:round}
path{vector-effect:non-scaling-stroke}
.grid{stroke:var(--line)}
path.series{stroke:var(--series);stroke-width:1.4}
use.score{stroke:var(--score);stroke-width:1;fill:var(--score);fill-opacity:.22}
use.over{stroke:var(--alarm);stroke-width:1.6;fill:var(--alarm);fill-opacity:.35}
path.threshold{stroke:var(--alarm);stroke-width:1.4;stroke-dasharray:5 3}
path.alarm{fill:var(--alarm)}path.label{fill:var(--label)}
.odd use{--series:var(--alarm)}
.cursor{display:none;position:absolute;top:0;bottom:0;width:1px;background:var(--ink);opacity:.55;pointer-events:none}
.tip{display:none;position:absolute;top:.3rem;left:0;z-index:1;pointer-events:none;background:var(--card);
border:1px solid var(--soft);border-radius:8px;padding:.4rem .7rem;font-size:.8rem;width:max-content;
max-width:min(24rem,100%);overflow-wrap:anywhere;box-shadow:0 4px 14px rgb(0 0 0/16%)}
.tip span{display:flex;justify-content:space-between;gap:1.2rem;color:var(--soft)}
.tip b{color:var(--ink);font-weight:600;white-space:nowrap}
.pointed .cursor,.pointed .tip{display:block}
.below{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:1.5rem 2.5rem;
margin-top:1.4rem}
.below>div{min-width:0}
.drivers{list-style:none;margin:0;padding:0;font-size:.875rem}
.drivers li{display:grid;grid-template-columns:minmax(5rem,9rem) 1fr 3rem;gap:.75rem;align-items:center;
padding:.22rem 0}
.drivers span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.drivers b{background:var(--line);border-radius:4px;height:.6rem}
.drivers i{display:block;height:100%;background:var(--series);border-radius:4px}
.drivers em{font-style:normal;text-align:right}
@media (max-width:40rem){.x span:nth-child(even){display:none}.panel,.x,.xname{margin-left:2.8rem}
.tip{top:auto;bottom:calc(100% + .2rem)}th,td{padding-inline:.3rem}td:first-child{white-space:normal}}
@media (max-width:64rem){.slices,.slices :is(thead,tbody){display:block}
.slices thead tr{display:flex;flex-wrap:wrap;gap:.2rem .9rem;margin:0 0 .4rem}
.slices thead th{border:0;padding:0}.slices [data-plain],.slices thead th:not(:has(button)){display:none}
.slices tbody tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(5.5rem,1fr));gap:.4rem .8rem;
padding:.7rem 0;border-bottom:1px solid var(--line)}
.slices :is(tbody th,td){border:0;padding:0;text-align:left;min-width:0;max-width:none}
.slices tbody th{grid-column:1/-2}.spark svg{width:100%}
.slices td[data-title]::before{content:attr(data-title);display:block;color:var(--soft);font-size:.75rem}}
@media print{body{background:#fff}section{break-inside:avoid;content-visibility:visible}
.find,.tip,.cursor{display:none!important}}
"""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'$allowed">
<meta name="generator" content="onlineguard">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$tiles
<div class="overview">$table</div>
$legend
$sections
</main>
$script</body>
</html>
""")


def filled(title: str, tiles: str, table: str, legend: str, sections: str, style: str = "", script: str = "") -> str:
    """The page with its parts, all of them HTML; `style` is added to `STYLE`, and `script` is run by the browser."""
    allowed = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed, script = f"; script-src 'sha256-{digest}'", f"<script>{script}</script>\n"
    parts = {"title": title, "tiles": tiles, "table": table, "legend": legend, "sections": sections}
    return _PAGE.substitute(parts, style=STYLE + style, script=script, allowed=allowed)
