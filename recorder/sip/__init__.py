"""The wire: pjsua2, and nothing else imports it. Every `pj` object is made, used and dropped on the sip thread."""
