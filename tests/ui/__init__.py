"""The console in a browser. Which stories are told where:

overview: figures that follow, ranges, every mark leads to what it counts     test_overview_page
tasks: list, filters, switch, batches, columns, a form that keeps its values  test_task_list, test_task_pages
tasks: cron helper, editor, checks while one types, test runs, dependencies   test_story, test_task_pages
monitoring: what runs now, history, retries, cancel, log and its downloads    test_monitoring_pages, test_story
monitoring: runs, replays, calendars, log search                              test_task_pages, test_log_search_page
groups and hosts: joining, presence, board, approval, rules                   test_host_pages, test_rule_pages
reports: statistics, workbook, mail                                           test_report_pages
settings: users, roles, rights on objects, audit log, system, secrets, one's own
                                            test_people_pages, test_settings_pages, test_own_settings
alerts: channel, rule, message, silence                                       test_alert_pages
everywhere: axe in both languages and themes, tablets, keys alone             test_accessibility, test_page_list
everywhere: old browsers' syntax, errors told to the server, lost connections test_browsers, test_story
"""
