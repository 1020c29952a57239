"""The image's HEALTHCHECK. Exits with 0 if the service in this container is ready, else with 1 and the reason.

It reads ONLINEGUARD_PORT and ONLINEGUARD_TLS_CERT. It does not check the certificate, which was issued for the name
that other machines use, not for 127.0.0.1.
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
# The environment may name proxies, which must not be used.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked))
try:
    opener.open(url, timeout=4).close()
except urllib.error.HTTPError as error:  # 503, with the reasons
    sys.exit(error.read().decode())
except OSError as error:
    sys.exit(f"{url}: {error}")
