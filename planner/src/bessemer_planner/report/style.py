"""The page's style: design tokens for light and dark, tables, figures."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--panel:#f6f7f9;--ink:#15181d;--muted:#626b78;--line:#dfe3e8;--good:#0b7a4b;
--bad:#b3261e;--c0:#2563b0;--c1:#d9631e;--c2:#1c8a5f;--c3:#8a4fbf;--c4:#b58900;--c5:#68707c;--c6:#b3261e}
@media (prefers-color-scheme:dark){:root{--bg:#14171c;--panel:#1c2027;--ink:#e8eaee;--muted:#9aa4b2;--line:#323842;
--good:#4cc38a;--bad:#ff8a80;--c0:#6ea8f0;--c1:#f39a5e;--c2:#54c594;--c3:#bf94ea;--c4:#e0bd4a;--c5:#a3abb8;--c6:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1320px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;line-height:1.25;margin:0 0 4px}h2{font-size:19px;margin:40px 0 12px}
p{margin:8px 0;max-width:76ch}.muted,.note{color:var(--muted)}.note{font-size:14px;margin:4px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:16px;margin:24px 0}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:14px 16px}
.tile b{display:block;font-size:26px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--muted);font-size:14px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:8px 12px;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
th{color:var(--muted);font-size:14px;font-weight:600;white-space:nowrap}
th:first-child,td:first-child,.text td,.text th{text-align:left}
td small{color:var(--muted);display:block;font-size:13px}
.badge{border:1px solid var(--line);border-radius:4px;color:var(--muted);font-size:12px;margin-left:6px;padding:1px 6px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:24px}
figure{background:var(--panel);border:1px solid var(--line);border-radius:8px;margin:0;padding:14px 16px}
figcaption{font-weight:600;margin-bottom:6px}svg{display:block;height:auto;width:100%;overflow:visible}
svg text{fill:var(--ink);font:13px system-ui,-apple-system,"Segoe UI",sans-serif;font-variant-numeric:tabular-nums}
svg .tick{fill:var(--muted);font-size:12px}svg .label{fill:var(--muted)}
.grid{stroke:var(--line)}.axis{stroke:var(--muted)}.line{fill:none;stroke-width:2.2;stroke-linejoin:round}
.dashed{stroke-dasharray:6 5}.band{opacity:.16}.mark{fill:var(--c)}.measured{fill:none;stroke:var(--c);stroke-width:2}
.compare td{overflow-wrap:anywhere}.compare{min-width:860px;table-layout:fixed}.compare th:first-child{width:150px}
.wide td:first-child{min-width:230px}.wide td:last-child{min-width:190px}.wide td{white-space:nowrap}
.wide td:first-child,.wide td:last-child{white-space:normal}.charts{margin:16px 0}
.on{border-color:var(--good);color:var(--good)}
h3{font-size:16px;margin:24px 0 4px}
ul{margin:8px 0;padding-left:20px;max-width:90ch}li{margin:4px 0}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px;color:var(--muted);margin-bottom:6px}
.key{border-top:3px solid var(--key);display:inline-block;margin-right:6px;vertical-align:middle;width:18px}
.key.dashed{border-top-style:dashed}.key.point{border:2px solid var(--key);border-radius:50%;height:9px;width:9px}
.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
blockquote{border-left:3px solid var(--c0);margin:8px 0;padding:2px 0 2px 16px;max-width:76ch}
code{font:13px ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
"""
