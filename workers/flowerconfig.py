"""What ``celery -A workers flower`` runs with unless its command line says otherwise.

Flower executes this file and takes the names that are options of its own. Its pages and its API show task names, arguments
and workers to whoever may open them, hence the loopback interface, the password, and no buttons.
"""

from config.settings import load_settings
from workers.flowertab import link_to_dashboard
from workers.password import flower_password

_settings = load_settings()
link_to_dashboard(_settings)

address = "127.0.0.1"
port = _settings.flower_port
basic_auth = [f"{_settings.flower_user}:{flower_password(_settings)}"]
read_only = True
inspect_timeout = 4000.0  # milliseconds; workers that are starting answer late
max_tasks = 10_000
# Its arguments say how many messages a task carries, and its result what became of them.
tasks_columns = "name,state,args,result,received,runtime,worker"
