"""The passwords that are tried first, as far as they are long enough to be allowed otherwise."""

from typing import Final

_TRIED_FIRST: Final = """
1234567890 0123456789 9876543210 0987654321 12345678910 123456789a a123456789 a1234567890
1234567890a 123456789q q123456789 1q2w3e4r5t 1qaz2wsx3edc 1qaz2wsx3e q1w2e3r4t5 q1w2e3r4t5y6
qwertyuiop qwertyuiop1 qwertyuiop123 qwerty1234 qwerty12345 qwerty123456 1234qwerasdf qazwsxedcrfv
asdfghjkl1 asdfghjkl123 zxcvbnm123 zxcvbnm1234 qwer1234asdf asdf1234asdf aa12345678 aa123456789
abc1234567 abc12345678 abc123456789 abcd123456 abcd1234567 abcd12345678 abcde12345 abcdef1234
abcdef123456 abcdefghij abcdefghijk abcdefghijkl password12 password123 password1234 password12345
password123456 passw0rd12 passw0rd123 p@ssw0rd123 p@ssword123 p@ssw0rd1234 password!! password01
passwordpassword password1! password123! mypassword mypassword1 mypassword123 changeme12
changeme123 changemenow letmein123 letmein1234 letmeinnow iloveyou12 iloveyou123 iloveyou1234
iloveyou12345 iloveyou520 woaini1314 woaini520 woaini5201314 woaini123456 woaini1234 wodemima123
5201314520 5201314abc 1314520520 1314520abc 0000000001 1111111112 1122334455 1212121212 1231231231
1234512345 1234554321 1234567899 1234567891 1111122222 9999999990 qq123456789 qq1234567890
wang123456 zhang123456 li123456789 admin12345 admin123456 admin1234567 administrator administrator1
welcome123 welcome1234 sunshine123 princess123 football123 baseball123 superman123 dragon1234
monkey12345 shadow12345 master12345 michael123 jennifer123 trustno1trustno1 starwars123 whatever123
computer123 internet123 samsung123 startrek123 charlie123 qwe123456789 qwe1234567 asd123456789
zxc123456789 zxcv123456 asdf123456 asdfasdfasdf qweqweqwe1 qwertyqwerty abcabcabc1 abc123abc123
123abc123abc 123qweasdzxc qweasdzxc123 qweasdzxc1 correcthorsebatterystaple tobeornottobe
durian1234 durian12345 durian123456 duriandurian rwadurian1 rwadurian123 testtest12 testtest123
test123456 test1234567 testpassword guest12345 user123456 secret1234 secretsecret default123
"""
WEAK: Final = frozenset(_TRIED_FIRST.split())
