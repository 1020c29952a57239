"""Exit code 0 if the service in this container is ready, else 1 with the reason: the HEALTHCHECK of the image.

It goes by ONLINEGUARD_PORT and ONLINEGUARD_TLS_CERT. The certificate is not checked: it names the service to others,
not to itself.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

unchecked = ssl.create_default_context()
unchecked.check_hostname = False
unchecked.verify_mode = ssl.CERT_NONE
scheme = "https" if os.environ.get("ONLINEGUARD_TLS_CERT") else "http"
url = f"{scheme}://127.0.0.1:{os.environ.get('ONLINEGUARD_PORT') or 8080}/readyz"
# Without the proxies that the environment may name.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked))
try:
    opener.open(url, timeout=4).close()
except urllib.error.HTTPError as error:  # 503, with what it waits for
    sys.exit(error.read().decode())
except OSError as error:
    sys.exit(f"{url}: {error}")
