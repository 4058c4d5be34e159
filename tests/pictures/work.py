"""Tasks as an operator would have them, and how their executions have gone."""

from dataclasses import dataclass, field
from typing import Any

from .hosts import DATA, DATABASE, EDGE, WEB

RECONCILE = """#!/bin/bash
set -euo pipefail
day="{{ params.day }}"

echo "拉取 $day 的支付流水"
mysql --defaults-file=/etc/pay/reader.cnf -N -e \\
  "select id, amount from payment where day = '$day'" > /tmp/pay.tsv

echo "与订单表核对"
/opt/reconcile/bin/compare --left /tmp/pay.tsv --day "$day" \\
  --report "/data/reconcile/$day.csv"
"""
BACKUP = """set -e
stamp=$(date +%F)
xtrabackup --backup --target-dir=/backup/$stamp --compress
rclone copy /backup/$stamp s3:db-backup/$stamp
find /backup -maxdepth 1 -mtime +7 -exec rm -rf {} +
"""


@dataclass
class Job:
    """A task: what the API takes of it, and its history."""

    name: str
    groups: list[str]
    body: dict[str, Any]
    minutes: int = 0  # between two firings of its history; 0: follows another task
    at: int = 0  # minutes after midnight (Asia/Shanghai) of the first firing of a day
    each: bool = False  # ran on every host of its groups, not on one in turn
    seconds: float = 10  # how long it takes
    failing: float = 0.01
    after: list[str] = field(default_factory=list)


def shell(command: str, **more: Any) -> dict[str, Any]:
    return {"executor_type": 1, "executor_config": {"command": command, **more}}


def http(method: str, url: str, **more: Any) -> dict[str, Any]:
    return {"executor_type": 2, "executor_config": {"method": method, "url": url, **more}}


def plugin(name: str, **params: Any) -> dict[str, Any]:
    return {"executor_type": 3, "executor_config": {"plugin": name, "params": params}}


def cron(expression: str) -> dict[str, Any]:
    return {"schedule_type": "cron", "cron_expr": expression}


NEVER = {"schedule_type": "none"}
RECONCILED = "订单对账"
EVERYWHERE = "磁盘空间巡检"  # runs on every host
JOBS = [
    Job(
        RECONCILED,
        [WEB],
        {
            **shell(
                RECONCILE,
                interpreter="/bin/bash",
                parameters={"day": "yesterday"},
                env={"TZ": "Asia/Shanghai"},
            ),
            **cron("*/10 * * * *"),
            "description": "核对支付流水与订单，差异写入对账表并通知支付组。",
            "routing": "round_robin",
            "labels": {"team": "支付", "level": "P0"},
            "retry_count": 2,
            "retry_interval": 30,
            "timeout": 600,
        },
        minutes=10,
        seconds=14,
        failing=0.02,
    ),
    Job(
        "库存同步到电商平台",
        [WEB],
        {
            **http(
                "POST",
                "https://stock.example.com/api/sync",
                headers={"Authorization": "Bearer {{ secrets.STOCK_TOKEN }}"},
            ),
            **cron("*/15 * * * *"),
            "description": "把各仓库存推送到第三方平台。",
            "routing": "random",
            "labels": {"team": "供应链", "level": "P1"},
            "retry_count": 3,
            "retry_interval": 10,
        },
        minutes=15,
        seconds=3,
        failing=0.05,
    ),
    Job(
        "数据库全量备份",
        [DATABASE],
        {
            **shell(BACKUP, run_as="mysql", env={"RCLONE_CONFIG_PASS": "{{ secrets.BACKUP_PASSPHRASE }}"}),
            **cron("0 2 * * *"),
            "description": "每天凌晨全量备份，上传对象存储，保留七天。",
            "routing": "failover",
            "labels": {"team": "DBA", "level": "P0"},
            "timeout": 3600,
            "retry_count": 1,
        },
        minutes=1440,
        at=120,
        seconds=1260,
        failing=0.04,
    ),
    Job(
        "慢查询统计",
        [DATABASE],
        {
            **shell("pt-query-digest /var/log/mysql/slow.log --limit 20"),
            **cron("*/30 * * * *"),
            "labels": {"team": "DBA"},
            "description": "汇总半小时内的慢查询。",
        },
        minutes=120,
        each=True,
        seconds=6,
    ),
    Job(
        EVERYWHERE,
        [WEB, DATABASE, DATA, EDGE],
        {
            **plugin("disk_check", paths=["/"], max_percent=95),
            **cron("0 */2 * * *"),
            "is_global": True,
            "labels": {"team": "运维"},
            "description": "分区使用超过 95% 即告警。",
            "spread_seconds": 60,
        },
        minutes=240,
        each=True,
        seconds=0.4,
        failing=0.015,
    ),
    Job(
        "官网证书与可用性检查",
        [EDGE],
        {
            **plugin("http_check", url="https://www.example.com/", max_ms=2000),
            **cron("*/20 * * * *"),
            "labels": {"team": "运维", "level": "P1"},
            "description": "从门店网络访问官网，检查证书和响应时间。",
        },
        minutes=60,
        each=True,
        seconds=1.2,
        failing=0.03,
    ),
    Job(
        "数仓：订单宽表",
        [DATA],
        {
            **shell(
                "spark-submit --master yarn /opt/etl/orders_wide.py --day {{ params.day }}",
                parameters={"day": "yesterday"},
            ),
            **cron("30 1 * * *"),
            "routing": "sharding",
            "timeout": 3600,
            "labels": {"team": "数据", "level": "P0"},
            "description": "按分片合并订单、支付与物流，生成宽表。",
        },
        minutes=1440,
        at=90,
        each=True,
        seconds=840,
        failing=0.02,
    ),
    Job(
        "数仓：用户画像",
        [DATA],
        {
            **shell("spark-submit /opt/etl/profile.py"),
            **NEVER,
            "timeout": 3600,
            "labels": {"team": "数据"},
            "routing": "least_loaded",
            "description": "宽表完成后更新用户标签。",
        },
        minutes=1440,
        at=106,
        seconds=610,
        after=["数仓：订单宽表"],
    ),
    Job(
        "经营日报推送",
        [DATA],
        {
            **shell("python3 /opt/report/daily.py --send"),
            **NEVER,
            "labels": {"team": "数据"},
            "routing": "failover",
            "description": "宽表与画像都完成后生成日报。",
        },
        minutes=1440,
        at=118,
        seconds=42,
        after=["数仓：订单宽表", "数仓：用户画像"],
    ),
    Job(
        "应用日志清理",
        [WEB],
        {
            **plugin("log_cleanup", directory="/var/log/app", older_than_days=14),
            **cron("0 3 * * *"),
            "labels": {"team": "运维"},
            "description": "删除十四天前的应用日志。",
            "wave_size": "2",
            "wave_max_failed": 20,
        },
        minutes=1440,
        at=180,
        each=True,
        seconds=8,
    ),
    Job(
        "门店价签刷新",
        [EDGE],
        {
            **shell("/opt/store/bin/refresh-labels --all"),
            **cron("0 7,13,19 * * *"),
            "offline_policy": "wait",
            "labels": {"team": "门店"},
            "description": "门店离线时等其恢复后补执行。",
            "misfire_grace": 7200,
        },
        minutes=360,
        at=420,
        each=True,
        seconds=25,
        failing=0.06,
    ),
    Job(
        "缓存预热",
        [WEB],
        {
            **shell("/opt/app/bin/warmup --hot 5000"),
            **cron("50 6 * * 1-5"),
            "labels": {"team": "平台"},
            "routing": "broadcast",
            "description": "工作日早高峰前预热商品与价格缓存。",
        },
        minutes=1440,
        at=410,
        each=True,
        seconds=95,
    ),
    Job(
        "季度数据归档",
        [DATABASE],
        {
            **shell("/opt/archive/run.sh --quarter"),
            **cron("0 4 1 1,4,7,10 *"),
            "status": 0,
            "labels": {"team": "DBA"},
            "description": "已停用：改由数据平台归档。",
        },
    ),
]

LIVE = """green='\\033[32m'; yellow='\\033[33m'; red='\\033[31m'; off='\\033[0m'
say() { printf "%s $1%-5s$off %s\\n" "$(date '+%H:%M:%S')" "$2" "$3"; }
say "$green" INFO "开始导出会员数据，共 48 个分区"
i=0
while [ $i -lt 48 ]; do
  i=$((i + 1))
  say "$green" INFO "分区 $i/48：读取 $((i * 137 % 900 + 2100)) 行，写入 member-$i.parquet"
  [ $((i % 9)) -eq 0 ] && say "$yellow" WARN "分区 $i 有 3 行手机号为空，已跳过"
  [ $i -eq 14 ] && say "$red" ERROR "分区 $i 第一次上传超时，两秒后重试"
  if [ $i -lt 20 ]; then sleep 0.1; else sleep 8; fi
done
"""
LOG = """{clock} INFO  拉取 {day} 的支付流水
{clock} INFO  共 18,342 笔，合计 ¥2,907,114.60
{clock} INFO  与订单表核对
{clock} INFO  一致 18,342 笔，差异 0 笔
{clock} INFO  报告已写入 /data/reconcile/{day}.csv
"""
BAD_LOG = """{clock} INFO  拉取 {day} 的支付流水
{clock} INFO  共 18,342 笔，合计 ¥2,907,114.60
{clock} WARN  连接 10.12.3.11:3306 较慢：2.8 s
{clock} INFO  与订单表核对
{clock} ERROR 读取订单表失败：Lost connection to MySQL server during query (2013)
Traceback (most recent call last):
  File "/opt/reconcile/bin/compare", line 212, in <module>
    main()
  File "/opt/reconcile/bin/compare", line 187, in main
    rows = source.read(day)
ConnectionError: 10.12.3.11:3306 closed the connection
"""
